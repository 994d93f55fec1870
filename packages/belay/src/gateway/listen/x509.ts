// The installation's certificate authority and the leaves that it signs (RFC 5280, P-256 with
// SHA-256), in plain node:crypto. All leaves of a process share one key that is never stored, so a
// new host costs one signature. Trusts its caller to keep `pem`, which holds the authority's key.

import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { BelayError, reasonOf } from '../../core/errors.ts';
import * as der from './der.ts';

const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 5 * 365;
const LEAF_DAYS = 7;
/** Clocks inside and outside may differ a little. */
const BACKDATE_MS = 3_600_000;

export interface Authority {
  /** Certificate and private key: a secret. */
  readonly pem: string;
  readonly certificatePem: string;
  /** The subject's only component. */
  readonly commonName: string;
  readonly expiresAt: number;
  /** A certificate for one host name or address. */
  mint(host: string, nowMs: number): Leaf;
}

export interface Leaf {
  readonly cert: string;
  readonly key: string;
  readonly expiresAt: number;
}

export function createAuthority(nowMs: number): Authority {
  const { privateKey, publicKey } = newKey();
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const commonName = `Belay local authority ${keyId(spki).toString('hex', 0, 4)}`;
  const certificatePem = certificate({
    subject: commonName,
    issuer: commonName,
    spki,
    issuerSpki: spki,
    issuerKey: privateKey,
    nowMs,
    days: AUTHORITY_DAYS,
    extensions: [
      // CA, and no authority below it.
      extension('2.5.29.19', true, der.sequence(der.boolean(true), der.integer(Buffer.of(0)))),
      // keyCertSign and cRLSign.
      extension('2.5.29.15', true, der.bitString(Buffer.of(0x06), 1)),
    ],
  });
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' });
  return parseAuthority(`${certificatePem}${key}`);
}

/** Reads what `pem` of an earlier authority held. Throws ERR_HOME. */
export function parseAuthority(pem: string): Authority {
  let cert: X509Certificate;
  let key: KeyObject;
  try {
    cert = new X509Certificate(pem);
    key = createPrivateKey(pem);
  } catch (error) {
    throw new BelayError('ERR_HOME', `not a certificate authority: ${reasonOf(error)}`);
  }
  const commonName = /^CN=([^\n]+)$/.exec(cert.subject)?.[1];
  if (!cert.ca || commonName === undefined || !cert.checkPrivateKey(key)) {
    throw new BelayError('ERR_HOME', 'not a certificate authority of ours, or not its key');
  }
  const issuerSpki = cert.publicKey.export({ type: 'spki', format: 'der' });
  const leaf = newKey();
  const spki = leaf.publicKey.export({ type: 'spki', format: 'der' });
  const leafKey = leaf.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  return {
    pem,
    certificatePem: pemOf(cert.raw),
    commonName,
    expiresAt: cert.validToDate.getTime(),
    mint: (host, nowMs) => ({
      key: leafKey,
      expiresAt: nowMs + LEAF_DAYS * DAY_MS,
      cert: certificate({
        // RFC 5280 allows 64 characters; clients read the alternative name.
        subject: host.slice(0, 64),
        issuer: commonName,
        spki,
        issuerSpki,
        issuerKey: key,
        nowMs,
        days: LEAF_DAYS,
        extensions: [
          extension('2.5.29.19', true, der.sequence()),
          extension('2.5.29.15', true, der.bitString(Buffer.of(0x80), 7)), // digitalSignature
          extension('2.5.29.37', false, der.sequence(der.oid('1.3.6.1.5.5.7.3.1'))), // serverAuth
          extension('2.5.29.17', false, der.sequence(der.generalName(host))),
        ],
      }),
    }),
  };
}

/** The file name that OpenSSL looks for in a directory of authorities: X509_NAME_hash. */
export function opensslHashName(commonName: string): string {
  // The canonical form: lower case, spaces folded, UTF8String, without the outer SEQUENCE.
  const canonical = commonName.trim().toLowerCase().replace(/\s+/g, ' ');
  const digest = createHash('sha1').update(relativeName(canonical)).digest();
  return `${digest.readUInt32LE(0).toString(16).padStart(8, '0')}.0`;
}

interface CertificateParts {
  readonly subject: string;
  readonly issuer: string;
  readonly spki: Buffer;
  readonly issuerSpki: Buffer;
  readonly issuerKey: KeyObject;
  readonly nowMs: number;
  readonly days: number;
  readonly extensions: readonly Buffer[];
}

const ECDSA_SHA256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));

function certificate(parts: CertificateParts): string {
  const { nowMs, days, spki } = parts;
  const serial = randomBytes(16);
  serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
  const tbs = der.sequence(
    der.tlv(0xa0, der.integer(Buffer.of(2))), // version 3
    der.integer(serial),
    ECDSA_SHA256,
    der.sequence(relativeName(parts.issuer)),
    der.sequence(der.time(nowMs - BACKDATE_MS), der.time(nowMs + days * DAY_MS)),
    der.sequence(relativeName(parts.subject)),
    spki,
    der.tlv(
      0xa3,
      der.sequence(
        ...parts.extensions,
        extension('2.5.29.14', false, der.octetString(keyId(spki))),
        extension('2.5.29.35', false, der.sequence(der.tlv(0x80, keyId(parts.issuerSpki)))),
      ),
    ),
  );
  const signature = sign('sha256', tbs, parts.issuerKey);
  return pemOf(der.sequence(tbs, ECDSA_SHA256, der.bitString(signature)));
}

function relativeName(commonName: string): Buffer {
  return der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(commonName)));
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  const flag = critical ? [der.boolean(true)] : [];
  return der.sequence(der.oid(id), ...flag, der.octetString(value));
}

function keyId(spki: Buffer): Buffer {
  return createHash('sha1').update(spki).digest();
}

function newKey(): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function pemOf(bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) as string[];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
