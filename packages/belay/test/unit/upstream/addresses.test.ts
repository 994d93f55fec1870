import fc from 'fast-check';
import { expect, test } from 'vitest';
import { REFUSED_V4, REFUSED_V6, refusedAddress } from '../../../src/upstream/addresses.ts';
import { verifies } from '../../verifies.ts';

const REFUSED: readonly (readonly [address: string, why: string])[] = [
  ['127.0.0.1', 'loopback'],
  ['127.255.255.254', 'loopback'],
  ['::1', 'loopback'],
  ['0.0.0.0', 'this network'],
  ['0.1.2.3', 'this network'],
  ['::', 'unspecified'],
  ['10.0.0.1', 'private'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['192.168.1.1', 'private'],
  ['fc00::1', 'private'],
  ['fdff:ffff::1', 'private'],
  ['169.254.1.1', 'link-local'],
  ['fe80::1', 'link-local'],
  ['febf::1', 'link-local'],
  ['fec0::1', 'site-local'],
  ['100.64.0.1', 'shared by carrier NAT'],
  ['100.127.255.255', 'shared by carrier NAT'],
  ['169.254.169.254', 'cloud metadata'],
  ['169.254.170.2', 'cloud metadata'],
  ['100.100.100.200', 'cloud metadata'],
  ['168.63.129.16', 'cloud metadata'],
  ['fd00:ec2::254', 'cloud metadata'],
  ['198.18.0.1', 'benchmarking'],
  ['198.19.255.255', 'benchmarking'],
  ['192.0.0.1', 'reserved'],
  ['192.0.2.1', 'documentation'],
  ['198.51.100.7', 'documentation'],
  ['203.0.113.7', 'documentation'],
  ['2001:db8::1', 'documentation'],
  ['3fff::1', 'documentation'],
  ['192.88.99.1', '6to4 relay'],
  ['224.0.0.1', 'multicast'],
  ['239.255.255.255', 'multicast'],
  ['ff02::1', 'multicast'],
  ['240.0.0.1', 'reserved'],
  ['255.255.255.255', 'broadcast'],
  ['::ffff:127.0.0.1', 'IPv4-mapped'],
  ['::ffff:8.8.8.8', 'IPv4-mapped'],
  ['::ffff:0808:0808', 'IPv4-mapped'],
  ['::127.0.0.1', 'IPv4-compatible'],
  ['64:ff9b::a9fe:a9fe', 'NAT64'],
  ['64:ff9b:1::1', 'NAT64'],
  ['2002:7f00:1::1', '6to4'],
  ['2001:0:1::1', 'Teredo'],
  ['2001:20::1', 'reserved'],
  ['100::1', 'reserved'],
  ['5f00::1', 'reserved'],
  ['4000::1', 'reserved'],
  ['fe80::1%eth0', 'not an address'],
  ['127.1', 'not an address'],
  ['0x7f000001', 'not an address'],
  ['', 'not an address'],
];

verifies('gw.ssrf', 'every class of address that is not public is refused by name', () => {
  for (const [address, why] of REFUSED)
    expect([address, refusedAddress(address)]).toEqual([address, why]);
});

verifies('gw.ssrf', 'public addresses next to the refused ranges pass', () => {
  for (const address of [
    '1.1.1.1',
    '8.8.8.8',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '169.255.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
    '223.255.255.255',
    '2001:200::1',
    '2606:4700::1111',
    '2a00:1450::1',
    '3ffe::1',
  ]) {
    expect([address, refusedAddress(address)]).toEqual([address, undefined]);
  }
});

test('every range of the table refuses its first address', () => {
  for (const [cidr] of [...REFUSED_V4, ...REFUSED_V6]) {
    expect(refusedAddress(cidr.split('/')[0] as string)).toBeDefined();
  }
});

test('the way an IPv6 address is written does not matter', () => {
  const words = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(words, (parts) => {
      const long = parts.map((word) => word.toString(16).padStart(4, '0')).join(':');
      const short = (URL.parse(`http://[${long}]/`) as URL).hostname.slice(1, -1);
      return refusedAddress(long) === refusedAddress(short);
    }),
  );
});
