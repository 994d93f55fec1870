import { expect } from 'vitest';
import { isRunId, newRunId, uuid7 } from '../../../src/core/ids.ts';
import { hostPort, parseHost, printable } from '../../../src/core/target.ts';
import { verifies } from '../../verifies.ts';

verifies('core.host', 'one spelling is left of each host', () => {
  const canonical: readonly (readonly [string, string])[] = [
    ['API.GitHub.com', 'api.github.com'],
    ['192.0.2.1', '192.0.2.1'],
    ['[2001:DB8:0:0::1]', '2001:db8::1'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['_dmarc.example.com', '_dmarc.example.com'],
  ];
  for (const [given, expected] of canonical) expect(parseHost(given)).toBe(expected);
});

verifies('core.host', 'a host with a second meaning is refused', () => {
  const refused = [
    '',
    'example.com.',
    'a..b',
    '-a.example',
    'example.com\u0000.evil.example',
    'example%2ecom',
    'exämple.com',
    'еxample.com',
    '0177.0.0.1',
    '127.1',
    '2130706433',
    '0x7f.1',
    '0x7f000001',
    '256.1.1.1',
    '1.2.3.4.5',
    'fe80::1%eth0',
    '[::1',
    'a b',
    'user@example.com',
    'example.com:80',
    `${'a'.repeat(64)}.example`,
    `${'a.'.repeat(130)}example`,
  ];
  for (const text of refused) {
    expect(() => parseHost(text), text).toThrow(expect.objectContaining({ code: 'ERR_PROTOCOL' }));
  }
});

verifies('core.host', 'host and port are joined without ambiguity', () => {
  expect(hostPort({ host: '::1', port: 80 })).toBe('[::1]:80');
  expect(hostPort({ host: 'a.example', port: 443 })).toBe('a.example:443');
});

verifies('core.host', 'text of an agent cannot steer a terminal', () => {
  expect(printable('a\u001b[31m\u202eb\u200b')).toBe('a\\u{1b}[31m\\u{202e}b\\u{200b}');
});

verifies('core.ids', 'ids sort by time and have the version and variant bits', () => {
  const zero = (size: number) => new Uint8Array(size);
  const ids = [1, 2, 1_000, 1_700_000_000_000].map((ms) => uuid7(ms, zero));
  expect([...ids].sort()).toEqual(ids);
  expect(ids[3]).toMatch(/^018bcfe5-6800-7000-8000-000000000000$/);
});

verifies('core.ids', 'a run has a name that a person can type', () => {
  const id = newRunId((size) => new Uint8Array(size).map((_, i) => i * 37));
  expect(isRunId(id)).toBe(true);
  expect(isRunId('r-AEIOU012')).toBe(false);
});
