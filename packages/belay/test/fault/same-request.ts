// Whether a request that arrived is the one that a client sent, in every part that an upstream sees: the
// method, what the target means, all fields that are not for one hop, and the body.

import { isDeepStrictEqual } from 'node:util';
import type { ReadRequest } from './strict-http.ts';

/** RFC 9110 section 7.6.1, the framing, and what is answered on the way. */
const NOT_PASSED = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'proxy-authorization'],
  ...['proxy-authentication-info', 'te', 'trailer', 'transfer-encoding', 'upgrade'],
  ...['http2-settings', 'content-length', 'expect', 'host'],
]);
/** The one escape of a slash that means a slash: npm's scoped names. */
const SCOPE = /(\/@[^/%?]+)%2f/gi;

/** What is different, or undefined. */
export function difference(
  sent: ReadRequest,
  arrived: ReadRequest,
  host: string,
): string | undefined {
  if (sent.odd || arrived.odd) return 'the coding';
  if (sent.method !== arrived.method) return 'the method';
  if (!isDeepStrictEqual(meaningOf(sent.target, host), meaningOf(arrived.target, host))) {
    return 'the target';
  }
  for (const [who, { fields }] of Object.entries({ sent, arrived })) {
    const hosts = fields.filter(([name]) => name === 'host');
    if (hosts.length !== 1 || !isHost(hosts[0]?.[1] ?? '', host)) return `the host as ${who}`;
  }
  if (!isDeepStrictEqual(passed(sent), passed(arrived))) return 'a field';
  return sent.body.equals(arrived.body) ? undefined : 'the body';
}

function isHost(value: string, host: string): boolean {
  return [host, `${host}:80`].includes(value.toLowerCase());
}

function meaningOf(
  target: string,
  host: string,
): readonly [path: string, query: string] | undefined {
  const absolute = /^http:\/\/([^/?#]*)(.*)$/i.exec(target);
  if (absolute !== null && !isHost(absolute[1] ?? '', host)) return undefined;
  const rest = absolute?.[2] ?? target;
  const mark = rest.indexOf('?');
  const path = mark === -1 ? rest : rest.slice(0, mark);
  const slashed = (path === '' ? '/' : path).replace(SCOPE, '$1/');
  // Apart from this one slash, every byte stands for itself, escaped or not.
  const plain = slashed.replace(/%([0-9a-f]{2})/gi, (triplet, digits: string) =>
    digits.toLowerCase() === '2f' ? triplet : String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return [plain, mark === -1 ? '' : rest.slice(mark + 1)];
}

function passed({ fields }: ReadRequest): ReadRequest['fields'] {
  const nominated = fields
    .filter(([name]) => name === 'connection')
    .flatMap(([, value]) => value.toLowerCase().split(','))
    .map((name) => name.trim());
  return fields.filter(([name]) => !NOT_PASSED.has(name) && !nominated.includes(name));
}
