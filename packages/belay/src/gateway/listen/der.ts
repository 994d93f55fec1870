// The little of DER (X.690) that a certificate needs: lengths below 64 KiB, definite form.

import { isIPv4 } from 'node:net';
import { parseAddress } from '../../upstream/addresses.ts';

function lengthOf(size: number): Buffer {
  if (size < 0x80) return Buffer.of(size);
  if (size < 0x100) return Buffer.of(0x81, size);
  return Buffer.of(0x82, size >> 8, size & 0xff);
}

export function tlv(tag: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(tag), lengthOf(body.length), body]);
}

export const sequence = (...parts: readonly Buffer[]): Buffer => tlv(0x30, ...parts);
export const set = (...parts: readonly Buffer[]): Buffer => tlv(0x31, ...parts);
export const boolean = (value: boolean): Buffer => tlv(0x01, Buffer.of(value ? 0xff : 0));
export const octetString = (bytes: Buffer): Buffer => tlv(0x04, bytes);
export const bitString = (bytes: Buffer, unusedBits = 0): Buffer =>
  tlv(0x03, Buffer.of(unusedBits), bytes);
export const utf8String = (text: string): Buffer => tlv(0x0c, Buffer.from(text));

/** An unsigned integer, big endian. */
export function integer(bytes: Buffer): Buffer {
  const signed = ((bytes[0] as number) & 0x80) !== 0;
  return tlv(0x02, signed ? Buffer.concat([Buffer.of(0), bytes]) : bytes);
}

export function oid(dotted: string): Buffer {
  const [a = 0, b = 0, ...rest] = dotted.split('.').map(Number);
  const out = [a * 40 + b];
  for (const value of rest) {
    const base128 = [value & 0x7f];
    for (let left = value >> 7; left > 0; left >>= 7) base128.unshift((left & 0x7f) | 0x80);
    out.push(...base128);
  }
  return tlv(0x06, Buffer.from(out));
}

/** GeneralizedTime in whole seconds; RFC 5280 wants UTCTime before 2050, and everyone reads both. */
export function time(ms: number): Buffer {
  const date = new Date(ms);
  const digits = date.toISOString().replace(/\.\d+Z$|[-:T]/g, '');
  const utc = date.getUTCFullYear() < 2050;
  return tlv(utc ? 0x17 : 0x18, Buffer.from(`${utc ? digits.slice(2) : digits}Z`, 'latin1'));
}

/** A subject alternative name: a DNS name or an address. */
export function generalName(host: string): Buffer {
  const words = parseAddress(host);
  if (words === undefined) return tlv(0x82, Buffer.from(host, 'latin1'));
  const bytes = Buffer.alloc(isIPv4(host) ? 4 : 16);
  words.forEach((word, i) => {
    bytes.writeUInt16BE(word, i * 2);
  });
  return tlv(0x87, bytes);
}
