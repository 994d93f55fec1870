// From a parsed HTTP/1 head to the parts of a Call, once and strictly. node:http has already refused
// broken syntax, both length and chunked framing at once, and heads over 16 KiB. Here everything is
// refused that could mean two things: another host than the connection's, a target that disagrees, a
// second value where one belongs, a field that names another method, path or client, a name that some
// servers read as that of another field, an unusual framing, trailers, an upgrade.

import type { IncomingMessage } from 'node:http';
import type { Headers } from '../../core/call.ts';
import { reasonOf } from '../../core/errors.ts';
import { hostPort, parseHost, type Target } from '../../core/target.ts';
import { dropNominated, isHopByHop, nominated } from '../../upstream/hop-by-hop.ts';
import { parsePath } from './path.ts';

export interface Head {
  readonly kind: 'head';
  readonly method: string;
  readonly target: Target;
  readonly path: string;
  readonly query: string;
  /** Without `host`, `expect` and hop-by-hop fields. */
  readonly headers: Headers;
  /** The length of the body; 0: there is none; undefined: it is chunked. */
  readonly bodyBytes: number | undefined;
  readonly expectsContinue: boolean;
}

export interface Refusal {
  readonly kind: 'refused';
  readonly status: 400 | 405 | 417 | 421 | 426 | 431;
  readonly reason: string;
}

/** node:http counts the bytes of names and values only: thousands of short fields would pass. */
const MOST_FIELDS = 256;

/** What no upstream can be told here: the client that is used has no way to send them. */
export const TRAILERS = 'a request with trailers';

/** Fields with one value, each with a bit of its own: where two come, two readers may take different
 * ones. */
const SINGLE: ReadonlyMap<string, number> = new Map(
  [
    ...['authorization', 'content-type', 'cookie', 'from', 'if-modified-since'],
    ...['if-unmodified-since', 'max-forwards', 'origin', 'range', 'referer', 'user-agent'],
  ].map((name, i) => [name, 1 << i]),
);

/** What some servers believe over the request line or the connection, and others do not. */
const CONTRADICTING: ReadonlyMap<string, string> = new Map([
  ...['x-http-method', 'x-http-method-override', 'x-method-override'].map(
    (name) => [name, 'it names another method'] as const,
  ),
  ...['x-original-url', 'x-rewrite-url'].map((name) => [name, 'it names another path'] as const),
  ...[
    ...['forwarded', 'via', 'x-forwarded', 'x-forwarded-for', 'x-forwarded-host'],
    ...['x-forwarded-port', 'x-forwarded-proto', 'x-forwarded-scheme', 'x-forwarded-server'],
    ...['x-host', 'x-original-host', 'x-real-ip', 'true-client-ip', 'client-ip', 'x-client-ip'],
  ].map((name) => [name, 'it speaks for a proxy'] as const),
]);

/** What frames a request, codes it, or says where it goes. */
const FRAMING: ReadonlySet<string> = new Set([
  ...['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'trailer', 'expect'],
  'content-encoding',
]);

/**
 * A field that matters, when this is its name with `_` for `-`. To CGI (RFC 3875 section 4.1.18), and
 * what learned from it, both are `HTTP_*` with underscores.
 */
function readAs(name: string): string | undefined {
  const read = name.replaceAll('_', '-');
  const matters =
    FRAMING.has(read) || SINGLE.has(read) || CONTRADICTING.has(read) || isHopByHop(read);
  return matters ? read : undefined;
}

/** `fixed`: where the connection goes; undefined on the explicit proxy. */
export function parseHead(
  request: IncomingMessage,
  fixed: Target | undefined,
  kind: 'http' | 'websocket' = 'http',
): Head | Refusal {
  const { rawHeaders, httpVersion } = request;
  // node:http reads a line without a version as HTTP/0.9, and one of HTTP/2.0 as if it were 1.1.
  if (httpVersion !== '1.1' && httpVersion !== '1.0') {
    return refused(400, `the version HTTP/${httpVersion}`);
  }
  if (rawHeaders.length > 2 * MOST_FIELDS) return refused(431, `more than ${MOST_FIELDS} fields`);
  const method = request.method as string;
  const headers: [string, string][] = [];
  let host: string | undefined;
  let drop: readonly string[] | undefined;
  let bodyBytes: number | undefined = 0;
  let expectsContinue = false;
  let seen = 0;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase();
    const value = rawHeaders[i + 1] as string;
    switch (name) {
      case 'host':
        if (host !== undefined) return refused(400, 'more than one host field');
        host = value;
        break;
      case 'content-length':
        // node:http has checked that it is one number.
        bodyBytes = Number(value);
        headers.push([name, value]);
        break;
      case 'transfer-encoding':
        if (value.toLowerCase() !== 'chunked' || request.httpVersionMinor === 0) {
          return refused(400, 'a transfer coding other than chunked');
        }
        bodyBytes = undefined;
        break;
      case 'connection':
        drop = nominated(value, drop);
        break;
      case 'upgrade':
        if (kind === 'websocket') break;
        return refused(426, 'an upgrade to another protocol');
      case 'trailer':
        return refused(400, TRAILERS);
      case 'expect':
        if (value.toLowerCase() !== '100-continue') return refused(417, 'an unknown expectation');
        expectsContinue = request.httpVersionMinor > 0;
        break;
      default: {
        if (name.includes('_')) {
          const read = readAs(name);
          if (read !== undefined)
            return refused(400, `the field \`${name}\`: some read it as \`${read}\``);
        }
        const why = CONTRADICTING.get(name);
        if (why !== undefined) return refused(400, `the field \`${name}\`: ${why}`);
        const bit = SINGLE.get(name) ?? 0;
        if ((seen & bit) !== 0) return refused(400, `more than one field \`${name}\``);
        seen |= bit;
        if (!isHopByHop(name)) headers.push([name, value]);
      }
    }
  }
  if (drop !== undefined) dropNominated(headers, drop);
  if (method === 'TRACE' || method === 'CONNECT') return refused(405, `the method ${method}`);
  const place = whereTo(request.url as string, fixed);
  if (place.kind === 'refused') return place;
  const { target } = place;
  if (host === undefined) return refused(400, 'no host field');
  if (!names(host, target)) return refused(421, `the host field is not \`${hostPort(target)}\``);
  const parsed = parsePath(place.rest);
  if (parsed.kind === 'refused') return refused(400, parsed.reason);
  const { path, query } = parsed;
  return { kind: 'head', method, target, path, query, headers, bodyBytes, expectsContinue };
}

interface Place {
  readonly kind: 'place';
  readonly target: Target;
  readonly rest: string;
}

const ABSOLUTE = /^(https?):\/\/([^/?#]*)(.*)$/i;

/** RFC 9112 section 3.2: origin form on a direct connection, absolute form where it agrees. */
function whereTo(text: string, fixed: Target | undefined): Place | Refusal {
  if (text[0] === '/') {
    if (fixed === undefined) return refused(400, 'a request to the proxy itself');
    return { kind: 'place', target: fixed, rest: text };
  }
  const match = ABSOLUTE.exec(text);
  if (match === null) return refused(400, 'a request target that is no path');
  const [, scheme = '', authority = '', tail = ''] = match;
  const rest = tail[0] === '/' ? tail : `/${tail}`;
  if (fixed !== undefined) {
    if (scheme.toLowerCase() === fixed.scheme && names(authority, fixed)) {
      return { kind: 'place', target: fixed, rest };
    }
    return refused(421, `the request target is not on \`${hostPort(fixed)}\``);
  }
  // Over the proxy https needs CONNECT: otherwise the client's side would be in the clear.
  if (scheme.toLowerCase() !== 'http') return refused(400, 'https without CONNECT');
  const target = parseAuthority(authority, 80);
  if (typeof target === 'string') return refused(400, target);
  return { kind: 'place', target: { scheme: 'http', ...target }, rest };
}

/** Whether a Host field or an authority is this target's, with or without the port. */
function names(text: string, target: Target): boolean {
  const name = target.host.includes(':') ? `[${target.host}]` : target.host;
  if (text === name) return true;
  const lower = text.toLowerCase();
  return lower === name || lower === `${name}:${target.port}`;
}

/** `HOST[:PORT]`, or why it is refused. Without a default the port is required, as in CONNECT. */
export function parseAuthority(
  text: string,
  defaultPort: number | undefined,
): Pick<Target, 'host' | 'port'> | string {
  const match = /^(\[[^\]]*\]|[^:]*)(?::([1-9]\d{0,4}))?$/.exec(text);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (match === null || port === undefined || port > 65_535) return 'not a host and a port';
  try {
    return { host: parseHost(match[1] as string), port };
  } catch (error) {
    return reasonOf(error);
  }
}

function refused(status: Refusal['status'], reason: string): Refusal {
  return { kind: 'refused', status, reason };
}
