// DNS inside a sandbox: nothing is ever looked up. Each name gets a fake address of its own out of
// 198.18.0.0/15 (RFC 2544), so that the bridge knows which name a later connection meant. Packets
// come from the agent: they are parsed once, strictly, and what is not one plain question gets no
// answer. Pure: no sockets, no clock.

import { isAddress, parseHost } from '../core/target.ts';

export const QTYPE = { A: 1, PTR: 12 } as const;
export const RCODE = { none: 0, failed: 2, noName: 3 } as const;
const INTERNET = 1;
const TTL_SECONDS = 5;
const HEADER_BYTES = 12;

export interface Question {
  readonly id: number;
  /** As it stood in the packet, to be echoed: resolvers check its capitals. */
  readonly bytes: Buffer;
  /** Canonical, or undefined when the bytes are no host name. */
  readonly name: string | undefined;
  readonly qtype: number;
  readonly recursionDesired: boolean;
}

/** The one question of a query, or undefined for anything else. */
export function parseQuery(packet: Buffer): Question | undefined {
  if (packet.length < HEADER_BYTES + 5 || packet.length > 4096) return undefined;
  const flags = packet.readUInt16BE(2);
  if ((flags & 0xf800) !== 0) return undefined; // a response, or not a standard query
  if (packet.readUInt16BE(4) !== 1 || packet.readUInt16BE(6) !== 0) return undefined;
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = packet[at];
    if (length === undefined || length > 63) return undefined; // the end, or a compression pointer
    at += 1;
    if (length === 0) break;
    // RFC 1035 section 2.3.4: 255 bytes, of which the root at its end is one.
    if (at + length > packet.length || at + length - HEADER_BYTES > 254) return undefined;
    labels.push(packet.toString('latin1', at, at + length));
    at += length;
  }
  if (at + 4 > packet.length) return undefined;
  if (packet.readUInt16BE(at + 2) !== INTERNET) return undefined;
  return {
    id: packet.readUInt16BE(0),
    bytes: packet.subarray(HEADER_BYTES, at + 4),
    name: hostName(labels),
    qtype: packet.readUInt16BE(at),
    recursionDesired: (flags & 0x0100) !== 0,
  };
}

function hostName(labels: readonly string[]): string | undefined {
  // A dot or a NUL within a label would make one name of two.
  if (labels.some((label) => !/^[A-Za-z0-9_-]+$/.test(label))) return undefined;
  try {
    const host = parseHost(labels.join('.'));
    return isAddress(host) ? undefined : host;
  } catch {
    return undefined; // parseHost refuses: the name has no meaning that both sides agree on
  }
}

/** A reply to `question`, with one A record when `address` is given. */
export function reply(question: Question, rcode: number, address?: string): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(question.id, 0);
  header.writeUInt16BE(0x8080 | (question.recursionDesired ? 0x0100 : 0) | rcode, 2);
  header.writeUInt16BE(1, 4);
  if (address === undefined) return Buffer.concat([header, question.bytes]);
  header.writeUInt16BE(1, 6);
  const record = Buffer.alloc(16);
  record.writeUInt16BE(0xc000 | HEADER_BYTES, 0); // the name: a pointer to the question's
  record.writeUInt16BE(QTYPE.A, 2);
  record.writeUInt16BE(INTERNET, 4);
  record.writeUInt32BE(TTL_SECONDS, 6);
  record.writeUInt16BE(4, 10);
  address.split('.').forEach((part, i) => {
    record.writeUInt8(Number(part), 12 + i);
  });
  return Buffer.concat([header, question.bytes, record]);
}

export interface FakeNames {
  /** The name's address; a new one while there is room, else undefined. */
  addressOf(name: string): string | undefined;
  has(name: string): boolean;
  nameOf(address: string): string | undefined;
}

/** A bounded table of names and their addresses. Nothing leaves it: an address keeps its meaning. */
export function createFakeNames(most: number): FakeNames {
  const addresses = new Map<string, string>();
  const names = new Map<string, string>();
  return {
    addressOf(name) {
      const known = addresses.get(name);
      if (known !== undefined || addresses.size >= most) return known;
      const n = addresses.size + 1;
      const address = `198.${18 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
      addresses.set(name, address);
      names.set(address, name);
      return address;
    },
    has: (name) => addresses.has(name),
    nameOf: (address) => names.get(address),
  };
}

/** Lets `burst` through at once and `perSecond` in the long run. */
export function createRate(burst: number, perSecond: number, nowMs: () => number): () => boolean {
  let left = burst;
  let at = nowMs();
  return () => {
    const now = nowMs();
    left = Math.min(burst, left + ((now - at) / 1000) * perSecond);
    at = now;
    if (left < 1) return false;
    left -= 1;
    return true;
  };
}
