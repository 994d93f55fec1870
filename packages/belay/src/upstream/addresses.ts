// Which addresses an agent may never reach unless the configuration declares them, whatever the host
// is called: loopback, private networks, cloud metadata, and every range that is not ordinary global unicast (IANA special
// purpose registries, RFC 6890 and its successors). Forms that carry an IPv4 address inside an IPv6
// one are refused whole, because what they reach depends on the host. What does not parse is refused.

import { isIPv4, isIPv6 } from 'node:net';

type Range = readonly [cidr: string, name: string];

/** The first match names the reason, so single addresses stand before their range. */
export const REFUSED_V4: readonly Range[] = [
  ['169.254.169.254/32', 'cloud metadata'],
  ['169.254.170.2/32', 'cloud metadata'],
  ['100.100.100.200/32', 'cloud metadata'],
  ['168.63.129.16/32', 'cloud metadata'],
  ['192.0.0.192/32', 'cloud metadata'],
  ['127.0.0.0/8', 'loopback'],
  ['10.0.0.0/8', 'private'],
  ['172.16.0.0/12', 'private'],
  ['192.168.0.0/16', 'private'],
  ['169.254.0.0/16', 'link-local'],
  ['100.64.0.0/10', 'shared by carrier NAT'],
  ['0.0.0.0/8', 'this network'],
  ['192.0.0.0/24', 'reserved'],
  ['192.0.2.0/24', 'documentation'],
  ['198.51.100.0/24', 'documentation'],
  ['203.0.113.0/24', 'documentation'],
  ['192.88.99.0/24', '6to4 relay'],
  ['198.18.0.0/15', 'benchmarking'],
  ['224.0.0.0/4', 'multicast'],
  ['255.255.255.255/32', 'broadcast'],
  ['240.0.0.0/4', 'reserved'],
];

export const REFUSED_V6: readonly Range[] = [
  ['fd00:ec2::254/128', 'cloud metadata'],
  ['fd20:ce::254/128', 'cloud metadata'],
  ['::1/128', 'loopback'],
  ['::/128', 'unspecified'],
  ['::ffff:0:0/96', 'IPv4-mapped'],
  ['::/96', 'IPv4-compatible'],
  ['64:ff9b::/96', 'NAT64'],
  ['64:ff9b:1::/48', 'NAT64'],
  ['fe80::/10', 'link-local'],
  ['fec0::/10', 'site-local'],
  ['fc00::/7', 'private'],
  ['ff00::/8', 'multicast'],
  ['2001::/32', 'Teredo'],
  ['2001::/23', 'reserved'],
  ['2001:db8::/32', 'documentation'],
  ['3fff::/20', 'documentation'],
  ['2002::/16', '6to4'],
];

/** Global unicast is the only IPv6 space that is handed out; the rest is refused by default. */
const GLOBAL_UNICAST_V6 = parseRange(['2000::/3', 'global unicast']);
const V4 = REFUSED_V4.map(parseRange);
const V6 = REFUSED_V6.map(parseRange);

/** Why an address is refused, or undefined for ordinary global unicast. */
export function refusedAddress(address: string): string | undefined {
  const words = parseAddress(address);
  if (words === undefined) return 'not an address';
  const found = (words.length === 2 ? V4 : V6).find((range) => contains(range, words));
  if (found !== undefined) return found.name;
  if (words.length === 8 && !contains(GLOBAL_UNICAST_V6, words)) return 'reserved';
  return undefined;
}

interface ParsedRange {
  readonly words: readonly number[];
  readonly prefixBits: number;
  readonly name: string;
}

function parseRange([cidr, name]: Range): ParsedRange {
  const [address, bits] = cidr.split('/') as [string, string];
  return { words: parseAddress(address) as number[], prefixBits: Number(bits), name };
}

function contains(range: ParsedRange, words: readonly number[]): boolean {
  let bits = range.prefixBits;
  for (let i = 0; bits > 0; i++, bits -= 16) {
    const mask = bits >= 16 ? 0xffff : (0xffff << (16 - bits)) & 0xffff;
    if ((((words[i] as number) ^ (range.words[i] as number)) & mask) !== 0) return false;
  }
  return true;
}

/** The 16-bit words of an address: two for IPv4, eight for IPv6. A zone id is no address. */
export function parseAddress(address: string): readonly number[] | undefined {
  if (isIPv4(address)) return v4Words(address);
  if (!isIPv6(address) || address.includes('%')) return undefined;
  const [head = '', tail] = address.split('::');
  const left = v6Words(head);
  if (tail === undefined) return left;
  const right = v6Words(tail);
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
}

function v4Words(address: string): number[] {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number);
  return [(a << 8) | b, (c << 8) | d];
}

function v6Words(part: string): number[] {
  if (part === '') return [];
  return part
    .split(':')
    .flatMap((word) => (word.includes('.') ? v4Words(word) : [Number.parseInt(word, 16)]));
}
