// One parse, one meaning: bytes as an agent chooses them, sent from inside a sandbox and through the
// explicit proxy. Each is judged by what the upstreams noted and by the ledger, and beside each stands
// its harmless twin, which has to arrive.

import { chownSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import type { Entry } from '../../src/core/entry.ts';
import { ORDINARY_UID } from '../installed.ts';
import type { RequirementId } from '../requirements.ts';
import { verifies } from '../verifies.ts';
import { openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const EXTERNAL = ['--containment', 'external'];
const MAPPED = '[::ffff:127.0.0.1]';
const NAT64 = '[64:ff9b::127.0.0.1]';
const root = process.getuid?.() === 0;

/** Where bytes are sent: `{n}` in them stands for the row's own mark. */
interface Bytes {
  /** `tls` to api.example:443, `plain` to api.example:80, `proxy`, or `connect` and TLS behind it. */
  readonly via: 'tls' | 'plain' | 'proxy' | 'connect';
  readonly text: string;
  readonly servername?: string;
  /** Of CONNECT; default api.example:443. */
  readonly to?: string;
  readonly alpn?: readonly string[];
}

interface Row {
  readonly id: RequirementId;
  readonly name: string;
  readonly attack: Bytes;
  readonly twin: Bytes;
  /** What the attacker hears: a status, or any text. */
  readonly hears: number | RegExp;
  /** What the ledger says. */
  readonly reason: RegExp;
}

const HOST = 'Host: api.example\r\n';
const END = 'Connection: close\r\n\r\n';
const SYNTAX = /^not HTTP\/1\.1: HPE_/;
const NO_SUCH_HOST = /^the host field is not/;

const get = (path: string, fields = HOST): string => `GET ${path} HTTP/1.1\r\n${fields}${END}`;
const post = (fields: string, body: string): string =>
  `POST /{n} HTTP/1.1\r\n${HOST}${fields}${END}${body}`;
const tls = (text: string, more: Partial<Bytes> = {}): Bytes => ({ via: 'tls', text, ...more });
const proxy = (text: string): Bytes => ({ via: 'proxy', text });
const connect = (to: string, text = get('/{n}')): Bytes => ({ via: 'connect', to, text });
const plainly = tls(get('/{n}'));

const rows: Row[] = [];
const row = (
  id: RequirementId,
  name: string,
  attack: Bytes,
  hears: Row['hears'],
  reason: RegExp,
  twin: Bytes = plainly,
): void => void rows.push({ id, name, attack, twin, hears, reason });

const HIDDEN = 'GET /{n}-hidden HTTP/1.1\r\nHost: api.example\r\n\r\n';
const chunked = tls(post('Transfer-Encoding: chunked\r\n', '5\r\nhello\r\n0\r\n\r\n'));
const sized = tls(post('Content-Length: 5\r\n', 'hello'));
for (const [name, fields, body, twin = sized, reason = SYNTAX] of [
  ['a length, then chunks', 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'],
  ['chunks, then a length', 'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', '0\r\n\r\n'],
  ['two lengths', 'Content-Length: 5\r\nContent-Length: 45\r\n', 'hello'],
  ['one length twice', 'Content-Length: 5\r\nContent-Length: 5\r\n', 'hello'],
  ['a list of lengths', 'Content-Length: 5, 45\r\n', 'hello'],
  ['a length with a sign', 'Content-Length: +5\r\n', 'hello'],
  ['a hexadecimal length', 'Content-Length: 0x5\r\n', 'hello'],
  ['a length of 70 bits', 'Content-Length: 1180591620717411303424\r\n', 'hello'],
  ['a coding that ends in chunked', 'Transfer-Encoding: xchunked\r\n', '0\r\n\r\n', chunked],
  ['chunked, then identity', 'Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n', chunked],
  [
    'a coding before chunked',
    'Transfer-Encoding: gzip, chunked\r\n',
    '0\r\n\r\n',
    chunked,
    /^a transfer coding other than chunked$/,
  ],
  ['a space before the colon', 'Transfer-Encoding : chunked\r\n', '0\r\n\r\n', chunked],
  ['a vertical tab before the coding', 'Transfer-Encoding:\x0bchunked\r\n', '0\r\n\r\n', chunked],
  [
    'the coding twice',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n',
    '0\r\n\r\n',
    chunked,
  ],
  ['a hexadecimal chunk with a prefix', 'Transfer-Encoding: chunked\r\n', '0x5\r\nhello', chunked],
  ['a chunk with a sign', 'Transfer-Encoding: chunked\r\n', '-5\r\nhello', chunked],
  [
    'a chunk of 72 bits',
    'Transfer-Encoding: chunked\r\n',
    '100000000000000005\r\nhello\r\n',
    chunked,
  ],
  ['a chunk that ends in LF', 'Transfer-Encoding: chunked\r\n', '5\nhello\r\n0\r\n\r\n', chunked],
  ['a chunk longer than it says', 'Transfer-Encoding: chunked\r\n', '4\r\nhello\r\n0', chunked],
] as readonly (readonly [string, string, string, Bytes?, RegExp?])[]) {
  row('gw.smuggling', name, tls(post(fields, `${body}${HIDDEN}`)), 400, reason, twin);
}
row(
  'gw.smuggling',
  'chunks in HTTP/1.0',
  tls(`POST /{n} HTTP/1.0\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`),
  400,
  /^(?:not HTTP\/1\.1|a transfer coding)/,
  tls(`POST /{n} HTTP/1.0\r\n${HOST}Content-Length: 5\r\n\r\nhello`),
);

row('gw.bare-lf', 'after each line', tls(get('/{n}').replaceAll('\r\n', '\n')), 400, SYNTAX);
row(
  'gw.bare-lf',
  'after one field',
  tls(get('/{n}', `${HOST}X-A: 1\nX-B: 2\r\n`)),
  400,
  SYNTAX,
  tls(get('/{n}', `${HOST}X-A: 1\r\nX-B: 2\r\n`)),
);
row('gw.bare-lf', 'a CR alone', tls(get('/{n}', `${HOST}X-A: 1\rX-B: 2\r\n`)), 400, SYNTAX);
row(
  'gw.obs-fold',
  'a value on two lines',
  tls(get('/{n}', `${HOST}X-A: 1\r\n 2\r\n`)),
  400,
  SYNTAX,
  tls(get('/{n}', `${HOST}X-A: 1 2\r\n`)),
);

for (const [name, value, other] of [
  ['Host', 'api.example', 'api.example'],
  ['Authorization', 'Basic eDp5', 'Basic eno6eg=='],
  ['Content-Type', 'text/plain', 'text/html'],
  ['Cookie', 'a=1', 'b=2'],
] as const) {
  const field = name === 'Host' ? '' : `${name}: ${value}\r\n`;
  row(
    'gw.duplicate-field',
    `two of ${name}`,
    tls(get('/{n}', `${HOST}${field}${name}: ${other}\r\n`)),
    400,
    /^more than one (?:host field|field `)/,
    tls(get('/{n}', `${HOST}${field}Accept: a/b\r\nAccept: c/d\r\n`)),
  );
}
row(
  'gw.oversize-head',
  'a field of 17,000 bytes',
  tls(get('/{n}', `${HOST}X-A: ${'a'.repeat(17_000)}\r\n`)),
  431,
  /^the head is over 16 KiB$/,
  tls(get('/{n}', `${HOST}X-A: ${'a'.repeat(14_000)}\r\n`)),
);
row(
  'gw.oversize-head',
  '3,000 fields',
  tls(get('/{n}', HOST + 'a: 1\r\n'.repeat(3_000))),
  431,
  /^more than 256 fields$/,
  tls(get('/{n}', HOST + 'a: 1\r\n'.repeat(200))),
);

row('gw.nul-host', 'in the host field', tls(get('/{n}', 'Host: api.example\0\r\n')), 400, SYNTAX);
const asked = (authority: string): string => `GET http://${authority}/{n} HTTP/1.1\r\n`;
const PROXIED = `{auth}\r\n${END}`;
for (const [id, name, authority, reason] of [
  ['gw.percent-host', 'an escaped dot', 'api%2eexample', /a label that DNS does not allow/],
  ['gw.percent-host', 'an escaped NUL', 'api.example%00.evil', /a label that DNS does not allow/],
  ['gw.trailing-dot', 'a dot at the end', 'api.example.', /a trailing dot/],
  ['gw.odd-ipv4', 'octal', '0177.0.0.1', /reads as an address|label/],
  ['gw.odd-ipv4', 'hexadecimal', '0x7f.0.0.1', /reads as an address/],
  ['gw.odd-ipv4', 'one number', '2130706433', /reads as an address/],
  ['gw.odd-ipv4', 'one hexadecimal number', '0x7f000001', /reads as an address/],
  ['gw.odd-ipv4', 'two parts', '127.1', /reads as an address/],
  ['gw.odd-ipv4', 'five parts', '127.0.0.0.1', /reads as an address/],
  ['gw.zone-id', 'an escaped zone', '[fe80::1%25lo]', /not an IPv6 address/],
  ['gw.zone-id', 'a bare zone', '[fe80::1%lo]', /not an IPv6 address/],
] as const) {
  row(
    id,
    `${name}, after CONNECT`,
    connect(`${authority}:443`),
    400,
    reason,
    connect('api.example:443'),
  );
  row(
    id,
    `${name}, in an absolute target`,
    proxy(`${asked(`${authority}:80`)}Host: ${authority}\r\n${PROXIED}`),
    400,
    reason,
    connect('api.example:443'),
  );
}
row(
  'gw.trailing-dot',
  'in the host field',
  tls(get('/{n}', 'Host: api.example.\r\n')),
  421,
  NO_SUCH_HOST,
);
row(
  'gw.look-alike',
  'a Cyrillic letter in the host field',
  tls(get('/{n}', 'Host: \xd0\xb0pi.example\r\n')),
  421,
  NO_SUCH_HOST,
);
row(
  'gw.look-alike',
  'the same in its ASCII form',
  connect('xn--pi-7kc.example:443', get('/{n}', 'Host: xn--pi-7kc.example\r\n')),
  403,
  /^no policy permits/,
  connect('api.example:443'),
);
for (const [id, authority, inside] of [
  ['gw.mapped-ipv6', MAPPED, '[::ffff:7f00:1]'],
  ['gw.nat64', NAT64, '[64:ff9b::7f00:1]'],
] as const) {
  row(
    id,
    'an address that the grant names',
    connect(`${authority}:443`, get('/{n}', `Host: ${inside}\r\n`)),
    403,
    /is refused: (?:IPv4-mapped|NAT64)/,
    connect('api.example:443'),
  );
}

row(
  'gw.sni',
  'another name in TLS',
  tls(get('/{n}'), { servername: 'other.example' }),
  421,
  /^the TLS name `other\.example` is not `api\.example`$/,
);
const OTHER = 'Host: other.example\r\n';
row(
  'gw.connect-host',
  'another host behind CONNECT',
  connect('api.example:443', get('/{n}', OTHER)),
  421,
  NO_SUCH_HOST,
  connect('api.example:443'),
);
row(
  'gw.domain-fronting',
  'another host than all before it said',
  tls(get('/{n}', OTHER)),
  421,
  NO_SUCH_HOST,
  tls(get('/{n}', 'Host: API.Example:443\r\n')),
);
for (const [name, field, hears, reason] of [
  ['no host', '', 400, /^no host field$/],
  ['an empty host', 'Host:\r\n', 421, NO_SUCH_HOST],
  ['another port', 'Host: api.example:444\r\n', 421, NO_SUCH_HOST],
  ['a user before the host', 'Host: api.example@other.example\r\n', 421, NO_SUCH_HOST],
  ['a list of hosts', 'Host: api.example, other.example\r\n', 421, NO_SUCH_HOST],
] as const) {
  row('gw.host-field', name, tls(get('/{n}', field)), hears, reason);
}
for (const [name, target] of [
  ['another host', 'https://other.example/{n}'],
  ['another scheme', 'http://api.example/{n}'],
  ['another port', 'https://api.example:444/{n}'],
  ['a user', 'https://api.example@other.example/{n}'],
] as const) {
  row(
    'gw.absolute-uri',
    name,
    tls(get(target)),
    421,
    /^the request target is not on/,
    tls(get('https://api.example/{n}')),
  );
}
row(
  'gw.second-host',
  'the second request asks another host',
  tls(`GET /{n}-first HTTP/1.1\r\n${HOST}\r\n${get('/{n}', OTHER)}`),
  /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 421 /,
  NO_SUCH_HOST,
  tls(`GET /{n}-first HTTP/1.1\r\n${HOST}\r\n${get('/{n}')}`),
);

for (const path of [
  ...['/a/../{n}', '/a/%2e%2e/{n}', '/a/.%2E/{n}', '/./{n}', '/{n}/..'],
  ...['/public/..;/{n}', '/public/%2e%2e;x=1/{n}', '/a/..%3B/{n}', '/a/.;/{n}', '/{n}/..;a;b'],
]) {
  row(
    'gw.dot-segments',
    path.replace('{n}', 'x'),
    tls(get(path)),
    400,
    /a dot segment/,
    tls(get('/..a;x=1/{n}')),
  );
}
for (const [path, reason] of [
  ['/a%2f{n}', /an encoded slash/],
  ['/a%5C{n}', /an encoded backslash/],
  ['/a\\{n}', /a character that a path cannot hold/],
  ['//{n}', /an empty segment/],
  ['/;x=1/{n}', /an empty segment/],
  ['/a%00{n}', /an encoded control character/],
  ['/a%0d%0a{n}', /an encoded control character/],
] as const) {
  row(
    'gw.encoded-slash',
    path.replace('{n}', 'x'),
    tls(get(path)),
    400,
    reason,
    tls(get('/a/%7E{n}')),
  );
}

for (const [field, reason] of [
  ['X_HTTP_Method_Override', /some read it as `x-http-method-override`$/],
  ['X-HTTP_Method', /some read it as `x-http-method`$/],
  ['X-HTTP-Method-Override', /it names another method$/],
  ['X-HTTP-Method', /it names another method$/],
  ['X-Method-Override', /it names another method$/],
] as const) {
  row(
    'gw.method-override',
    field,
    tls(post(`${field}: DELETE\r\nContent-Length: 5\r\n`, 'hello')),
    400,
    reason,
    tls(post('X_Custom_Field: DELETE\r\nContent-Length: 5\r\n', 'hello')),
  );
}
for (const [field, reason] of [
  ['Forwarded: for=10.0.0.1', /it speaks for a proxy$/],
  ['Via: 1.1 proxy', /it speaks for a proxy$/],
  ['X-Forwarded-For: 10.0.0.1', /it speaks for a proxy$/],
  ['X-Forwarded-Host: other.example', /it speaks for a proxy$/],
  ['X-Real-IP: 10.0.0.1', /it speaks for a proxy$/],
  ['X-Original-URL: /other', /it names another path$/],
  ['X-Rewrite-URL: /other', /it names another path$/],
  ['X_Forwarded_For: 10.0.0.1', /some read it as `x-forwarded-for`$/],
  ['Client_IP: 10.0.0.1', /some read it as `client-ip`$/],
  ['X_Original_URL: /other', /some read it as `x-original-url`$/],
] as const) {
  row('gw.forwarded', field, tls(get('/{n}', `${HOST}${field}\r\n`)), 400, reason);
}
for (const field of ['Content_Type: text/html', 'User_Agent: other', 'If_Modified_Since: x']) {
  row(
    'gw.duplicate-field',
    field,
    tls(get('/{n}', `${HOST}Content-Type: a/b\r\n${field}\r\n`)),
    400,
    new RegExp(`^the field \`${field.replace(/:.*/, '').toLowerCase()}\`: some read it as`),
  );
}
for (const field of ['Transfer_Encoding: chunked', 'Content_Length: 9', 'Content_Encoding: gzip']) {
  row(
    'gw.smuggling',
    field,
    tls(post(`${field}\r\nContent-Length: 5\r\n`, 'hello')),
    400,
    new RegExp(`^the field \`${field.replace(/:.*/, '').toLowerCase()}\`: some read it as`),
    sized,
  );
}
row(
  'gw.h2c',
  'an upgrade to h2c',
  tls(
    `GET /{n} HTTP/1.1\r\n${HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n`,
  ),
  426,
  /^an upgrade to another protocol$/,
);
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';
row(
  'gw.http2',
  'HTTP/2 without asking',
  { via: 'plain', text: PREFACE },
  /HTTP\/1\.1/,
  /^HTTP\/2$/,
);
row(
  'gw.http2',
  'a client that offers nothing else in TLS',
  tls(PREFACE, { alpn: ['h2'] }),
  /HTTP\/1\.1/,
  /^HTTP\/2$/,
  tls(get('/{n}'), { alpn: ['h2', 'http/1.1'] }),
);
row('gw.trace', 'TRACE', tls(get('/{n}').replace('GET', 'TRACE')), 405, /^the method TRACE$/);
row(
  'gw.trace',
  'CONNECT inside a connection',
  tls(`CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n${get('/{n}', OTHER)}`),
  405,
  /^the method CONNECT inside a connection$/,
);
row(
  'gw.trailers',
  'a request that announces one',
  tls(post('Trailer: X-A\r\nTransfer-Encoding: chunked\r\n', '5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n')),
  400,
  /^a request with trailers$/,
  chunked,
);
row(
  'gw.trailers',
  'a request that brings one unannounced',
  tls(post('Transfer-Encoding: chunked\r\n', '5\r\nhello\r\n0\r\nHost: other.example\r\n\r\n')),
  400,
  /^a request with trailers$/,
  chunked,
);

interface Heard {
  readonly heard: string;
  readonly error?: string;
}

let upstream: Upstream;
let place: Place;
let entries: readonly Entry[];
const attacks = new Map<Row, Heard>();
const twins = new Map<Row, Heard>();

beforeAll(async () => {
  upstream = await startUpstream(['api.example', 'other.example']);
  const { address } = upstream;
  // What agents send goes to the upstream whole, if anything does.
  upstream.answer = (_request, reply) => void reply.end('ok\n');
  place = await openPlace({
    allow: ['api.example', 'other.example', `${MAPPED}:443`, `${NAT64}:443`],
    upstreams: { 'api.example': upstream, 'other.example': upstream },
  });
  expect(address).toMatch(/^127/);
  if (root) {
    chownSync(place.workdir, ORDINARY_UID, ORDINARY_UID);
    for (const name of readdirSync(place.workdir)) {
      chownSync(join(place.workdir, name), ORDINARY_UID, ORDINARY_UID);
    }
  }
  const collected: Entry[] = [];
  for (const outside of [false, true]) {
    const mine = rows.flatMap((one, n) =>
      [one.attack, one.twin].flatMap((bytes, i) =>
        (bytes.via === 'proxy' || bytes.via === 'connect') === outside
          ? [
              {
                one,
                kept: i === 0 ? attacks : twins,
                sent: wire(bytes, `${i === 0 ? 'attack' : 'twin'}-${n}`),
              },
            ]
          : [],
      ),
    );
    const { results, run } = await place.attempt(
      outside ? EXTERNAL : [],
      // All at once would measure the limits of a connection's beginning.
      chunksOf(mine, 24).map((some) => ['raws', some.map(({ sent }) => sent)] as const),
    );
    expect(run.status, run.stderr).toBe(0);
    for (const [i, heard] of results.flatMap(({ value }) => value as Heard[]).entries()) {
      const { one, kept } = mine[i] as (typeof mine)[number];
      kept.set(one, heard);
    }
    collected.push(...(await place.entries(run.summary?.run)));
  }
  entries = collected;
}, 120_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

function wire(
  { via, text, servername, to = 'api.example:443', alpn }: Bytes,
  mark: string,
): object {
  const filled = text.replaceAll('{n}', mark);
  switch (via) {
    case 'tls':
      return {
        host: 'api.example',
        port: 443,
        servername: servername ?? 'api.example',
        alpn,
        text: filled,
      };
    case 'plain':
      return { host: 'api.example', port: 80, text: filled };
    case 'proxy':
      return { text: filled };
    case 'connect': {
      const name = to.replace(/:\d+$/, '');
      return {
        connect: `CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n{auth}\r\n\r\n`,
        servername: name.startsWith('[') ? '' : name,
        text: filled,
      };
    }
  }
}

function chunksOf<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) =>
    all.slice(i * size, (i + 1) * size),
  );
}

/** What the ledger says was refused, before a call, by policy, or at the door. */
function reasons(): readonly string[] {
  return entries.flatMap((entry) => {
    if (entry.type === 'denial' || entry.type === 'net.denial') return [entry.reason];
    return entry.type === 'outcome' && entry.error !== undefined ? [entry.error.reason] : [];
  });
}

for (const [n, one] of rows.entries()) {
  verifies(one.id, `${one.name}: refused and recorded, and its twin arrives`, () => {
    const heard = attacks.get(one);
    const expected =
      typeof one.hears === 'number' ? new RegExp(`^HTTP/1\\.1 ${one.hears} `) : one.hears;
    expect(heard?.heard, JSON.stringify(heard)).toMatch(expected);
    const arrived = upstream.arrivals.map(({ url }) => url);
    const hidden = new RegExp(`attack-${n}(?!\\d)(?!-first)`);
    expect(arrived.filter((url) => hidden.test(url))).toEqual([]);
    const alike = rows.filter(({ reason }) => String(reason) === String(one.reason));
    const told = reasons().filter((reason) => one.reason.test(reason));
    expect(told.length, reasons().join('\n')).toBeGreaterThanOrEqual(alike.length);

    expect(twins.get(one)?.heard, JSON.stringify(twins.get(one))).toMatch(/^HTTP\/1\.[01] 200 /);
    expect(arrived.filter((url) => new RegExp(`twin-${n}$`).test(url))).toHaveLength(1);
  });
}
