// Where a call goes. A host name is parsed once, strictly, into its one canonical form: lower
// case, ASCII, no trailing dot, no look-alike of an address. Everything inside compares strings.

import { BelayError } from './errors.ts';
import type { Brand } from './ids.ts';

/** A canonical host: a DNS name, an IPv4 address in dotted form, or an IPv6 address in lower case. */
export type Host = Brand<string, 'Host'>;

/** `tls` and `tcp` are tunnels: TLS that the client's own ends are in, and bytes of any kind. */
export type Tunnel = 'tls' | 'tcp';
export type Scheme = 'http' | 'https' | Tunnel;

export interface Target {
  readonly scheme: Scheme;
  readonly host: Host;
  readonly port: number;
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/**
 * Parses a host. Throws ERR_PROTOCOL for an empty or long name, a bad label, a non-ASCII letter, a
 * percent escape, a NUL, an octal, hexadecimal or short IPv4 form, or an IPv6 zone id.
 */
export function parseHost(text: string): Host {
  const refuse = (why: string): never => {
    throw new BelayError('ERR_PROTOCOL', `host \`${printable(text)}\` refused: ${why}`);
  };
  if (text.length === 0 || text.length > 253) refuse('a name has 1 to 253 characters');
  const name = text.toLowerCase();
  if (name.startsWith('[') || name.includes(':')) return parseIpv6(name, refuse);
  if (IPV4.test(name)) return name as Host;
  if (name.endsWith('.')) refuse('a trailing dot');
  const labels = name.split('.');
  for (const label of labels) if (!LABEL.test(label)) refuse('a label that DNS does not allow');
  // A name whose last label is numeric is an address to some clients and a name to others.
  const last = labels[labels.length - 1] as string;
  if (/^(?:\d+|0x[0-9a-f]*)$/.test(last)) refuse('it reads as an address in a short or other base');
  return name as Host;
}

function parseIpv6(name: string, refuse: (why: string) => never): Host {
  const inner = name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name;
  if (!/^[0-9a-f:.]+$/.test(inner)) refuse('not an IPv6 address');
  const url = URL.parse(`http://[${inner}]/`);
  if (url === null) return refuse('not an IPv6 address');
  return url.hostname.slice(1, -1) as Host;
}

export function isAddress(host: string): boolean {
  return host.includes(':') || IPV4.test(host);
}

/** `host:port` for people and keys; an IPv6 address is bracketed. */
export function hostPort(target: { readonly host: string; readonly port: number }): string {
  return `${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`;
}

/** Text from an agent, safe to print: control, bidi and zero-width characters become escapes. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
    (c) => `\\u{${(c.codePointAt(0) as number).toString(16)}}`,
  );
}
