import { X509Certificate } from 'node:crypto';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { createLeafContexts } from '../../../src/gateway/listen/leaf-contexts.ts';
import { javaKeyStore, writeTrust } from '../../../src/gateway/listen/trust.ts';
import {
  createAuthority,
  opensslHashName,
  parseAuthority,
} from '../../../src/gateway/listen/x509.ts';
import { verifies } from '../../verifies.ts';

const NOW = Date.parse('2030-01-02T03:04:05Z');
const dir = mkdtempSync(join(tmpdir(), 'belay-trust-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

verifies(
  'gw.intercept',
  'a leaf is signed by the authority, for its one host and a few days',
  () => {
    const authority = createAuthority(NOW);
    const ca = new X509Certificate(authority.certificatePem);
    expect(ca.ca).toBe(true);
    expect(ca.verify(ca.publicKey)).toBe(true);
    for (const [host, san] of [
      ['api.example.com', 'DNS:api.example.com'],
      [`${'a'.repeat(60)}.${'b'.repeat(60)}.example`, undefined],
      ['127.0.0.1', 'IP Address:127.0.0.1'],
      ['2001:db8::1', 'IP Address:2001:DB8:0:0:0:0:0:1'],
    ] as const) {
      const { cert, key } = authority.mint(host, NOW);
      const leaf = new X509Certificate(cert);
      expect(leaf.verify(ca.publicKey)).toBe(true);
      expect(leaf.checkIssued(ca)).toBe(true);
      expect(leaf.ca).toBe(false);
      expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
      if (san !== undefined) expect(leaf.subjectAltName).toBe(san);
      expect(leaf.validToDate.getTime()).toBe(NOW + 7 * 86_400_000);
      expect(leaf.validFromDate.getTime()).toBeLessThan(NOW);
      expect(key).toContain('PRIVATE KEY');
    }
    const serials = new Set(
      Array.from(
        { length: 20 },
        () => new X509Certificate(authority.mint('x', NOW).cert).serialNumber,
      ),
    );
    expect(serials.size).toBe(20);
  },
);

test('an authority is read back from what was kept of it, and nothing else passes for one', () => {
  const authority = createAuthority(NOW);
  const again = parseAuthority(authority.pem);
  expect(again.commonName).toBe(authority.commonName);
  expect(again.expiresAt).toBe(NOW + 5 * 365 * 86_400_000);
  const ca = new X509Certificate(authority.certificatePem);
  expect(new X509Certificate(again.mint('x', NOW).cert).verify(ca.publicKey)).toBe(true);
  expect(authority.certificatePem).not.toContain('PRIVATE');
  const leaf = authority.mint('x', NOW);
  const other = createAuthority(NOW);
  const key = authority.pem.slice(authority.certificatePem.length);
  for (const bad of [
    '',
    'junk',
    authority.certificatePem,
    leaf.cert + leaf.key,
    other.certificatePem + key,
  ]) {
    expect(() => parseAuthority(bad)).toThrow(expect.objectContaining({ code: 'ERR_HOME' }));
  }
});

test('times after 2049 have four digits of year', () => {
  const late = Date.parse('2051-02-03T04:05:06Z');
  const leaf = new X509Certificate(createAuthority(late).mint('x', late).cert);
  expect(leaf.validToDate.toISOString()).toBe('2051-02-10T04:05:06.000Z');
});

test('the hash name is the one that OpenSSL computes', () => {
  // openssl x509 -subject_hash of a certificate with these names.
  expect(opensslHashName('Belay local authority 16899727')).toBe('6a8980f2.0');
});

test('contexts are kept, bounded, and minted anew before their leaf expires', () => {
  let now = NOW;
  const authority = createAuthority(NOW);
  let minted = 0;
  const counting = {
    ...authority,
    mint(host: string, nowMs: number) {
      minted++;
      return authority.mint(host, nowMs);
    },
  };
  const contexts = createLeafContexts(counting, () => now, 2);
  const a = contexts('a');
  expect(contexts('a')).toBe(a);
  contexts('b');
  contexts('a');
  contexts('c'); // b was used longest ago
  expect(contexts('a')).toBe(a);
  expect(minted).toBe(3);
  contexts('b');
  expect(minted).toBe(4);
  now += 86_400_000;
  expect(contexts('b')).not.toBe(a);
  expect(minted).toBe(5);
});

test('the trust directory holds the bundle, the hashed name and the Java store, readable by all', () => {
  const authority = createAuthority(NOW);
  const system = join(dir, 'system.pem');
  const other = createAuthority(NOW);
  writeFileSync(system, other.certificatePem.trimEnd());
  const trust = join(dir, 'trust');
  for (let i = 0; i < 2; i++) writeTrust({ dir: trust, authority, systemBundle: system });
  const read = (name: string) => readFileSync(join(trust, name), 'utf8');
  expect(read('ca.pem')).toBe(authority.certificatePem);
  expect(read('bundle.pem')).toBe(other.certificatePem + authority.certificatePem);
  expect(read('certs/ca-certificates.crt')).toBe(read('bundle.pem'));
  expect(read(`certs/${opensslHashName(authority.commonName)}`)).toBe(authority.certificatePem);
  const found = readdirSync(trust, { recursive: true, withFileTypes: true });
  for (const entry of found) {
    const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o777;
    expect([entry.name, mode]).toEqual([entry.name, entry.isDirectory() ? 0o755 : 0o644]);
  }
  expect(found.some(({ name }) => name.endsWith('.new'))).toBe(false);
  expect(found.map(({ name }) => readIfFile(trust, name)).join('')).not.toContain('PRIVATE');
  chmodSync(trust, 0o755);
  // A host without a bundle trusts ours alone.
  writeTrust({ dir: trust, authority, systemBundle: join(dir, 'none') });
  expect(read('bundle.pem')).toBe(authority.certificatePem);
});

test('the Java store is JKS version 2 with our certificate under the usual password', () => {
  const { certificatePem } = createAuthority(NOW);
  const store = javaKeyStore(certificatePem);
  expect(store.subarray(0, 12).toString('hex')).toBe('feedfeed0000000200000001');
  const { raw } = new X509Certificate(certificatePem);
  expect(store.indexOf(raw)).toBe(store.length - 20 - raw.length);
});

function readIfFile(parent: string, name: string): string {
  try {
    return readFileSync(join(parent, name), 'utf8');
  } catch {
    return '';
  }
}
