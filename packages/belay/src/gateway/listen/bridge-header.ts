// The one line that the bridge writes before an agent's bytes: where the agent meant to go. The
// bridge is ours but lives next to the agent, so the line is parsed strictly: exactly these keys,
// an address, a port, a name that DNS could have handed out; anything else is no line at all.

import { isIP } from 'node:net';
import { type Host, isAddress, parseHost } from '../../core/target.ts';

export const MAX_LINE_BYTES = 1024;

export type BridgeHeader =
  | {
      readonly kind: 'connection';
      readonly address: string;
      readonly port: number;
      /** The name that our DNS gave the address to; undefined: the agent used an address. */
      readonly name: Host | undefined;
    }
  | { readonly kind: 'dns'; readonly name: string; readonly qtype: number };

export function parseBridgeHeader(line: string): BridgeHeader | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const fields = value as Record<string, unknown>;
  if (fields.v !== 1) return undefined;
  return 'dns' in fields ? dnsHeader(fields) : connectionHeader(fields);
}

function connectionHeader(fields: Record<string, unknown>): BridgeHeader | undefined {
  const { v: _v, dst, port, name, ...rest } = fields;
  if (Object.keys(rest).length > 0) return undefined;
  if (typeof dst !== 'string' || isIP(dst) === 0 || dst.includes('%')) return undefined;
  if (!isUint16(port) || port === 0) return undefined;
  if (name === undefined || name === null) {
    return { kind: 'connection', address: parseHost(dst), port, name: undefined };
  }
  if (typeof name !== 'string') return undefined;
  try {
    const host = parseHost(name);
    return isAddress(host) ? undefined : { kind: 'connection', address: dst, port, name: host };
  } catch {
    return undefined; // parseHost refuses: not a name that our DNS gives an address to
  }
}

function dnsHeader(fields: Record<string, unknown>): BridgeHeader | undefined {
  const { v: _v, dns, qtype, ...rest } = fields;
  if (Object.keys(rest).length > 0) return undefined;
  if (typeof dns !== 'string' || dns.length > 255 || !isUint16(qtype)) return undefined;
  return { kind: 'dns', name: dns, qtype };
}

function isUint16(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535;
}
