// Fields that belong to one connection and never cross the gateway (RFC 9110 section 7.6.1), in
// either direction; those that a `connection` field nominates are added.

import type { Headers } from '../core/call.ts';

const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-authentication-info',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

/** `name` in lower case. */
export function isHopByHop(name: string): boolean {
  return HOP_BY_HOP.has(name);
}

/** Adds the fields that a `connection` value nominates; undefined while there are none. */
export function nominated(
  connection: string,
  before: readonly string[] | undefined,
): readonly string[] | undefined {
  const value = connection.toLowerCase();
  if (value === 'keep-alive' || value === 'close') return before;
  return [...(before ?? []), ...value.split(',').map((token) => token.trim())];
}

/** Takes nominated fields out of a list, in place. */
export function dropNominated(headers: [string, string][], names: readonly string[]): void {
  for (let i = headers.length - 1; i >= 0; i--) {
    if (names.includes((headers[i] as [string, string])[0])) headers.splice(i, 1);
  }
}

/** The fields of an answer that cross, from names and values in a row. */
export function answerHeaders(raw: readonly (Buffer | string)[]): Headers {
  const headers: [string, string][] = [];
  let drop: readonly string[] | undefined;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = latin1(raw[i] as Buffer | string).toLowerCase();
    const value = latin1(raw[i + 1] as Buffer | string);
    if (!isHopByHop(name)) headers.push([name, value]);
    else if (name === 'connection') drop = nominated(value, drop);
  }
  if (drop !== undefined) dropNominated(headers, drop);
  return headers;
}

function latin1(text: Buffer | string): string {
  return typeof text === 'string' ? text : text.toString('latin1');
}
