// The installation's signature under what a probe found: a key of its own, made once, readable by the
// daemon alone; its public half lies beside the trust files, for whoever verifies.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { canonical } from '../core/canonical.ts';
import type { SandboxCertificate } from '../core/entry.ts';
import { asBelayError } from '../core/errors.ts';
import type { RunId } from '../core/ids.ts';
import type { Home } from './home.ts';
import { keyFile } from './key-file.ts';
import type { StandingRun } from './protocol.ts';

export interface Signer {
  readonly key: string;
  sign(bytes: Uint8Array): string;
}

const PUBLIC_FILE = 'certificate-key.pem';

/** Throws ERR_HOME. */
export function loadSigner(home: Home): Signer {
  const made = () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    return privateKey.export({ type: 'pkcs8', format: 'pem' });
  };
  const pem = keyFile(home, PUBLIC_FILE, made);
  try {
    const privateKey = createPrivateKey(pem);
    const publicKey = createPublicKey(privateKey);
    writeFileSync(
      join(home.trust, PUBLIC_FILE),
      publicKey.export({ type: 'spki', format: 'pem' }),
      { mode: 0o644 },
    );
    return {
      key: keyIdOf(publicKey),
      sign: (bytes) => sign(null, bytes, privateKey).toString('base64'),
    };
  } catch (error) {
    throw asBelayError('ERR_HOME', 'cannot prepare the key that signs certificates', error);
  }
}

export function certificateOf(
  run: RunId,
  { checks, host }: StandingRun['probe'],
  signer: Signer,
): SandboxCertificate {
  const statement = { type: 'sandbox.certificate', run, checks, host, key: signer.key } as const;
  return { ...statement, signature: signer.sign(bytesOf(statement)) };
}

/** Whether this home's key signed it. */
export function certificateHolds(home: Home, certificate: SandboxCertificate): boolean {
  try {
    const publicKey = createPublicKey(readFileSync(join(home.trust, PUBLIC_FILE)));
    const { type, run, checks, host, key, signature } = certificate;
    const statement = { type, run, checks, host, key };
    return (
      key === keyIdOf(publicKey) &&
      verify(null, bytesOf(statement), publicKey, Buffer.from(signature, 'base64'))
    );
  } catch {
    return false; // no key here, or not a signature
  }
}

function bytesOf(statement: Omit<SandboxCertificate, 'signature'>): Uint8Array {
  return Buffer.from(canonical({ ...statement, checks: [...statement.checks] }));
}

function keyIdOf(publicKey: KeyObject): string {
  const der = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('hex');
}
