// What a sandbox needs to trust the installation's authority: a directory that is bound over
// /etc/ssl/certs and a file for programs that read their own. Readable by every uid, because it
// holds no secret; each file is replaced whole, so a reader sees the old one or the new one.

import { createHash, X509Certificate } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Authority, opensslHashName } from './x509.ts';

export interface TrustOptions {
  readonly dir: string;
  readonly authority: Pick<Authority, 'certificatePem' | 'commonName'>;
  /** The host's own bundle; a host without one gets ours alone. */
  readonly systemBundle?: string;
  /** Authorities in PEM that the operator has imported. */
  readonly roots?: readonly string[];
}

/**
 * Writes `ca.pem` (ours), `bundle.pem` (the system's, imported ones and ours) and `certs/`, laid out as
 * /etc/ssl/certs: the bundle, OpenSSL's hashed name, and `java/cacerts`.
 */
export function writeTrust(options: TrustOptions): void {
  const { dir, authority, roots = [] } = options;
  const { systemBundle = '/etc/ssl/certs/ca-certificates.crt' } = options;
  const { certificatePem, commonName } = authority;
  const system = readIfThere(systemBundle);
  const gap = system === '' || system.endsWith('\n') ? '' : '\n';
  const bundle = `${system}${gap}${roots.join('')}${certificatePem}`;
  const certs = join(dir, 'certs');
  const java = join(certs, 'java');
  for (const folder of [dir, certs, java]) {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o755);
  }
  replace(join(dir, 'ca.pem'), certificatePem);
  replace(join(dir, 'bundle.pem'), bundle);
  replace(join(certs, 'ca-certificates.crt'), bundle);
  replace(join(certs, opensslHashName(commonName)), certificatePem);
  replace(join(java, 'cacerts'), javaKeyStore(certificatePem));
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // no bundle, or not for us: trusting fewer authorities is the safe side
  }
}

function replace(path: string, content: string | Buffer): void {
  writeFileSync(`${path}.new`, content);
  chmodSync(`${path}.new`, 0o644);
  // CRASH: a `.new` file may stay; the next write replaces it.
  renameSync(`${path}.new`, path);
}

/** A JKS store (version 2) with one trusted certificate, under the password that Java assumes. */
export function javaKeyStore(certificatePem: string, password = 'changeit'): Buffer {
  const certificate = new X509Certificate(certificatePem);
  const created = Buffer.alloc(8);
  created.writeBigInt64BE(BigInt(certificate.validFromDate.getTime()));
  const store = Buffer.concat([
    uint32(0xfeedfeed),
    uint32(2), // version
    uint32(1), // entries
    uint32(2), // a trusted certificate
    modifiedUtf('belay'),
    created,
    modifiedUtf('X.509'),
    uint32(certificate.raw.length),
    certificate.raw,
  ]);
  const digest = createHash('sha1')
    .update(Buffer.from(password, 'utf16le').swap16())
    .update('Mighty Aphrodite') // the format's own salt
    .update(store)
    .digest();
  return Buffer.concat([store, digest]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function modifiedUtf(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}
