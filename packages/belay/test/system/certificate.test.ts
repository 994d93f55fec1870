// The certificate of a sandbox: written before its first call, signed by a key that no agent has, and
// checked here by nothing of ours but the canonical form.

import { createHash, createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { openPlace } from './place.ts';
import { startUpstream } from './upstreams.ts';

const CHECKS = [
  'no-new-privileges',
  'filter',
  'capabilities',
  'uid0',
  'mount',
  'user-namespace',
  'ptrace',
  'core-pattern',
  'set-uid',
  'processes',
  'loopback',
  'sockets',
  'protected-names',
  'secret-files',
  'environment',
  'packet-socket',
  'vsock',
];

verifies(
  'probe.certificate',
  'each run has a signed entry of what its probe found, before its first call, which verifies',
  async () => {
    await using upstream = await startUpstream(['api.example']);
    await using place = await openPlace({ upstreams: { 'api.example': upstream } });
    const { session } = place;
    place.put('.env', 'KEY=value\n');
    const get = ['curl', '-s', '-m', '10', 'https://api.example/'];
    const run = await place.run(['--allow', 'api.example'], get);
    expect(run.status, run.stderr).toBe(0);
    const entries = await place.entries(run.summary?.run);
    const types = entries.map(({ type }) => type);
    expect(types.indexOf('sandbox.certificate')).toBeGreaterThan(0);
    expect(types.indexOf('sandbox.certificate')).toBeLessThan(types.indexOf('intent'));

    const found = entries.find(({ type }) => type === 'sandbox.certificate');
    if (found?.type !== 'sandbox.certificate') throw new Error('no certificate');
    const { type, checks, host, key, signature } = found;
    expect(checks).toEqual(CHECKS);
    expect(host.kernel).toContain('Linux');
    const pem = readFileSync(join(session.home, 'trust/certificate-key.pem'));
    const publicKey = createPublicKey(pem);
    const der = publicKey.export({ type: 'spki', format: 'der' });
    expect(key).toBe(createHash('sha256').update(der).digest('hex'));
    // Members in the order of their names, no spaces: all values here are plain.
    const sorted = Object.fromEntries(Object.entries(host).sort(([a], [b]) => (a < b ? -1 : 1)));
    const statement = JSON.stringify({ checks, host: sorted, key, run: found.run, type });
    const bytes = Buffer.from(statement);
    expect(verify(null, bytes, publicKey, Buffer.from(signature, 'base64'))).toBe(true);
    expect(statSync(join(session.home, 'keys/certificate-key.pem')).mode & 0o777).toBe(0o600);

    expect((await session.belay(['log', 'verify'])).status).toBe(0);
    // With another key in its place the certificates are nobody's.
    const other = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' });
    writeFileSync(join(session.home, 'trust/certificate-key.pem'), other);
    const forged = await session.belay(['log', 'verify']);
    expect(forged.status).toBe(6);
    expect(forged.stdout).toContain('forged');
  },
  { timeoutMs: 60_000 },
);
