// Requests that honest programs make, and the answers that honest services give, chosen by a seed:
// methods, targets, fields, bodies of a length or in chunks, statuses, codings, trailers, connections
// that stay or close. Nothing here is refused by rule; what Belay writes anew by rule (a path's escapes)
// is already written that way.

import { createHash } from 'node:crypto';
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { type Chance, chance } from './random.ts';

export type Fields = readonly (readonly [name: string, value: string])[];

export interface PlannedBody {
  readonly framing: 'none' | 'length' | 'chunked';
  readonly sizeBytes: number;
}

export interface Planned {
  /** Unique; it stands in the target. */
  readonly n: number;
  readonly method: string;
  readonly target: string;
  /** Without `host` and the framing. */
  readonly fields: Fields;
  readonly body: PlannedBody;
  /** Asks to be told that it may send its body, and waits for it unless requests go ahead. */
  readonly expects: boolean;
  readonly answer: PlannedAnswer;
}

export interface PlannedAnswer {
  readonly status: number;
  readonly fields: Fields;
  /** `close`: it ends with its connection. */
  readonly framing: 'none' | 'length' | 'chunked' | 'close';
  readonly sizeBytes: number;
  readonly coding: 'gzip' | 'br' | 'zstd' | 'deflate' | undefined;
  readonly trailers: Fields;
  /** Written in so many pieces. */
  readonly pieces: number;
  /** Its head comes a moment before its body. */
  readonly late: boolean;
}

/** One connection of the client: its requests in turn, or all at once and then their answers. */
export interface PlannedConnection {
  readonly ahead: boolean;
  readonly requests: readonly Planned[];
}

/** The bytes of a body; the client inside makes them the same way. */
export function bytesFor(n: number, sizeBytes: number): Buffer {
  if (sizeBytes === 0) return Buffer.alloc(0);
  return createHash('shake256', { outputLength: sizeBytes }).update(`body ${n}`).digest();
}

/** What an answer's body is on the wire. */
export function answerBytes(n: number, { sizeBytes, coding }: PlannedAnswer): Buffer {
  const plain = bytesFor(-n, sizeBytes);
  switch (coding) {
    case 'gzip':
      return gzipSync(plain);
    case 'br':
      return brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
    case 'zstd':
      return zstdCompressSync(plain);
    case 'deflate':
      return deflateSync(plain);
    case undefined:
      return plain;
  }
}

export function planConnections(count: number, seed: number): readonly PlannedConnection[] {
  const connections: PlannedConnection[] = [];
  for (let n = 1; n <= count; ) {
    const draw = chance(seed, n);
    const length = Math.min(draw.of([1, 1, 2, 5, 12, 30]), count - n + 1);
    const ahead = length > 1 && length <= 12 && draw.happens(0.25);
    const requests = Array.from({ length }, (_, i) =>
      planRequest(n + i, chance(seed, n + i), i === length - 1),
    );
    connections.push({ ahead, requests });
    n += length;
  }
  return connections;
}

const METHODS = [
  ...Array<string>(8).fill('GET'),
  ...Array<string>(5).fill('POST'),
  ...['HEAD', 'HEAD', 'PUT', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'REPORT', 'QUERY'],
];
const SEGMENTS = [
  ...['v1', 'items', 'a-b_c~d', '.well-known', '@scope', 'x:y', 'f(1)', "it's", 'a,b;c=d', '1.2.3'],
  ...['%20', 'caf%C3%A9', '%E6%97%A5%E6%9C%AC', 'a%2Bb', '100%25', 'a&b=c', '$ref', '*', 'q!'],
];
const QUERIES = [
  ...[
    'a=1',
    'q=a+b&lang=de',
    'q=%C3%BC%20x',
    'x[]=1&x[]=2',
    'empty=&also',
    'u=https://a.example/b?c',
  ],
  ...[
    'json={"a":[1,2]}',
    'sig=abc%2Fdef%3D%3D',
    '&&',
    '=',
    'a=1?b=2',
    'p=a|b',
    `long=${'z'.repeat(3000)}`,
  ],
];

function planRequest(n: number, draw: Chance, last: boolean): Planned {
  const method = draw.of(METHODS);
  const path = Array.from({ length: draw.below(4) }, () => `/${draw.of(SEGMENTS)}`).join('');
  const query = draw.happens(0.5) ? `?${draw.of(QUERIES)}` : '';
  const carries = ['POST', 'PUT', 'PATCH', 'PROPFIND', 'REPORT', 'QUERY'].includes(method);
  const withBody = carries ? draw.happens(0.9) : method === 'DELETE' && draw.happens(0.2);
  const framing = draw.of(['length', 'length', 'chunked'] as const);
  const body: PlannedBody = {
    framing: withBody ? framing : 'none',
    sizeBytes: withBody ? sizeFor(draw) : 0,
  };
  const expects = body.sizeBytes > 0 && draw.happens(0.15);
  return {
    n,
    method,
    target: `/n/${n}${path}${query}`,
    fields: requestFields(draw, last),
    body,
    expects,
    answer: planAnswer(method, draw, last),
  };
}

/** Mostly small; one in fifty is of megabytes, where a body is a stream. */
function sizeFor(draw: Chance): number {
  if (draw.happens(0.02)) return draw.below(3 << 20);
  if (draw.happens(0.1)) return draw.of([0, 1, 1023, 1024, 16_383, 16_384, 65_535, 65_536, 65_537]);
  return Math.floor(2 ** (draw.below(1_600) / 100));
}

const LATIN = 'gr\u00fc\u00dfe \u00e9\u00ff';
const REQUEST_FIELDS: Fields = [
  ['User-Agent', 'probe/1.0 (a; b) c/2'],
  ['Accept', '*/*'],
  ['accept', 'text/html;q=0.9, application/json'],
  ['Accept-Encoding', 'gzip, deflate, br, zstd'],
  ['Accept-Language', 'de-CH, en;q=0.5'],
  ['Cookie', 'a=1; b="2"; c='],
  ['Authorization', 'Basic dXNlcjpwYXNz'],
  ['Content-Type', 'application/json; charset=utf-8'],
  ['content-type', 'multipart/form-data; boundary=----x'],
  ['Content-Encoding', 'identity'],
  ['Content-MD5', 'Q2hlY2sgSW50ZWdyaXR5IQ=='],
  ['If-None-Match', '"abc", W/"def"'],
  ['If-Modified-Since', 'Sat, 01 Nov 2025 08:00:00 GMT'],
  ['Range', 'bytes=0-99'],
  ['Referer', 'https://api.example/a?b#c'],
  ['Origin', 'null'],
  ['Cache-Control', 'no-cache'],
  ['Pragma', 'no-cache'],
  ['Prefer', 'return=minimal'],
  ['Priority', 'u=1, i'],
  ['Sec-Fetch-Mode', 'cors'],
  ['X-Request-Id', '0000-1111'],
  ['X-Empty', ''],
  ['X-Latin', LATIN],
  ['X-Tab', 'a\tb'],
  ['X-Long', 'l'.repeat(4_000)],
  ['X-Same', 'one'],
  ['x-same', 'two'],
  ['X-SAME', 'one'],
  ['X_Under', 'score'],
  ["X-!#$%&'*+-.^_`|~0", 'every sign of a token'],
  ['TraceParent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
];
/** Of which two readers could take different ones: once at most. */
const ONCE = new Set(['content-type']);

function requestFields(draw: Chance, last: boolean): Fields {
  const chosen = pick(draw, REQUEST_FIELDS, 10);
  const many = draw.happens(0.02)
    ? Array.from({ length: 100 }, (_, i) => [`x-many-${i}`, `${i}`] as const)
    : [];
  const hop: Fields = draw.happens(0.1) ? [['TE', 'trailers']] : [];
  const connection = last && draw.happens(0.5) ? 'close' : hop.length > 0 ? 'TE' : 'keep-alive';
  const said: Fields =
    draw.happens(0.5) || connection !== 'keep-alive' ? [['Connection', connection]] : [];
  return [...chosen, ...many, ...hop, ...said];
}

/** Some of the fields in an order of their own. */
function pick(draw: Chance, from: Fields, most: number): Fields {
  const seen = new Set<string>();
  return Array.from({ length: draw.below(most) }, () => draw.of(from)).filter(([name]) => {
    const lower = name.toLowerCase();
    if (ONCE.has(lower) || !/^(?:x-same|accept|set-cookie|link|vary)$/.test(lower)) {
      if (seen.has(lower)) return false;
    }
    seen.add(lower);
    return true;
  });
}

const STATUSES = [
  ...Array<number>(12).fill(200),
  ...[201, 202, 203, 204, 204, 205, 206, 207, 226, 300, 301, 302, 303, 304, 304, 307, 308],
  ...[
    400, 401, 402, 403, 404, 404, 405, 406, 408, 409, 410, 411, 412, 413, 415, 416, 418, 421, 422,
  ],
  ...[425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 507, 511, 599],
];
const ANSWER_FIELDS: Fields = [
  ['Date', 'Sat, 22 Nov 2025 08:00:00 GMT'],
  ['Server', 'an origin'],
  ['Content-Type', 'text/plain; charset=utf-8'],
  ['Content-Type', 'application/octet-stream'],
  ['ETag', 'W/"x"'],
  ['Last-Modified', 'Sat, 01 Nov 2025 08:00:00 GMT'],
  ['Cache-Control', 'private, max-age=0'],
  ['Expires', '0'],
  ['Age', '3'],
  ['Vary', 'Accept'],
  ['Vary', 'Origin'],
  ['Set-Cookie', 'a=1; Path=/; HttpOnly'],
  ['set-cookie', 'b=2, with comma; Secure'],
  ['Link', '<https://api.example/2>; rel="next"'],
  ['Link', '<https://api.example/9>; rel="last"'],
  ['Location', '/elsewhere?x=1#y'],
  ['Retry-After', '1'],
  ['WWW-Authenticate', 'Basic realm="a", Bearer'],
  ['Allow', 'GET, HEAD'],
  ['Accept-Ranges', 'bytes'],
  ['Content-Range', 'bytes 0-9/10'],
  ['Content-Disposition', 'attachment; filename="a \\"b\\".txt"'],
  ['Content-Language', 'de'],
  ['Strict-Transport-Security', 'max-age=1'],
  ['Alt-Svc', 'h3=":443"'],
  ['Access-Control-Allow-Origin', '*'],
  ['X-RateLimit-Remaining', '17'],
  ['X-Empty', ''],
  ['X-Latin', LATIN],
  ['X-Tab', 'a\tb'],
  ['X-Same', 'one'],
  ['x-same', 'two'],
  ['X-Long', 'l'.repeat(6_000)],
];

function planAnswer(method: string, draw: Chance, last: boolean): PlannedAnswer {
  const status = draw.of(STATUSES);
  const fields = pick(draw, ANSWER_FIELDS, 12);
  const empty = status === 204 || status === 205 || status === 304;
  const framing = empty
    ? 'none'
    : draw.of(['length', 'length', 'chunked', last ? 'close' : 'length'] as const);
  const bare = method === 'HEAD' || framing === 'none';
  const coding = draw.happens(0.2)
    ? draw.of(['gzip', 'br', 'zstd', 'deflate'] as const)
    : undefined;
  const trailers: Fields =
    framing === 'chunked' && !bare && draw.happens(0.3)
      ? [
          ['X-Digest', `sha-256=:${draw.below(1e9)}:`],
          ['Server-Timing', 'db;dur=53'],
        ]
      : [];
  return {
    status,
    fields,
    framing,
    sizeBytes: framing === 'none' ? 0 : sizeFor(draw),
    coding: bare ? undefined : coding,
    trailers,
    pieces: draw.of([1, 1, 1, 2, 5]),
    late: draw.happens(0.1),
  };
}
