// What passes: answers that come early, late, in pieces, with trailers, as events, on a connection that
// stays, and bytes that nobody looks into. And what an upstream may not do with its answer.

import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, expect } from 'vitest';
import { createAuthority } from '../../src/gateway/listen/x509.ts';
import { verifies } from '../verifies.ts';
import { denials, eventually, openPlace, type Place } from './place.ts';
import { type RawUpstream, startRawUpstream, startUpstream, type Upstream } from './upstreams.ts';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

let upstream: Upstream;
let splitter: RawUpstream;
let echo: RawUpstream;
let pinned: Upstream;
let place: Place;
/** What the splitter answers with. */
let words = '';

beforeAll(async () => {
  upstream = await startUpstream(['api.example', 'other.example']);
  pinned = await startUpstream(['pinned.example']);
  splitter = await startRawUpstream('split.example', (socket) => {
    socket.on('data', (chunk) => {
      if (chunk.includes('\r\n\r\n')) socket.write(Buffer.from(words, 'latin1'));
    });
  });
  echo = await startRawUpstream(undefined, (socket) => {
    socket.write('welcome\n');
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('end', () => socket.end());
  });
  place = await openPlace({
    allow: ['api.example', 'other.example', 'split.example'],
    upstreams: {
      'api.example': upstream,
      'other.example': upstream,
      'split.example': splitter,
      'pinned.example': pinned,
      'db.example': { address: echo.address, scheme: 'http' },
    },
  });
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  for (const one of [upstream, pinned, splitter, echo]) await one?.[Symbol.asyncDispose]();
}, 60_000);

const raw = (text: string, host = 'api.example') =>
  ['raws', [{ host, port: 443, servername: host, text }]] as const;
const get = (path: string, host = 'api.example', last = 'Connection: close\r\n'): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${last}\r\n`;

verifies(
  'gw.redirect',
  'a redirect is the agent’s to follow, and another host is another call',
  async () => {
    upstream.answer = (_request, reply) => {
      reply.writeHead(302, { location: 'https://denied.example/there' }).end();
    };
    const script = [
      'curl -sS -o /dev/null -w "%{http_code} %{redirect_url}\\n" https://api.example/redirect',
      'curl -sS -L -o /dev/null -w "%{http_code}\\n" https://api.example/redirect',
    ].join('\n');
    const run = await place.run([], ['sh', '-c', script]);
    expect(run.stdout).toBe('302 https://denied.example/there\n403\n');
    const entries = await place.entries(run.summary?.run);
    expect(entries.filter(({ type }) => type === 'intent')).toHaveLength(2);
    expect(denials(entries).map(({ host, path }) => [host, path])).toEqual([
      ['denied.example', '/there'],
    ]);
    upstream.answer = (_request, reply) => void reply.end('ok\n');
  },
  { timeoutMs: 30_000 },
);

verifies(
  'gw.response-splitting',
  'what an upstream says behind its answer is nobody’s, and an answer with two readings is none',
  async () => {
    const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    words = `${ok}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison`;
    const twice = get('/first', 'split.example', '') + get('/second', 'split.example');
    const both = await place.attempt(
      [],
      [raw(twice, 'split.example'), raw(twice, 'split.example')],
    );
    for (const { value } of both.results) expect(value[0].heard).not.toContain('poison');
    expect(both.results[0]?.value[0].heard).toMatch(/^HTTP\/1\.1 200 /);

    const broken = [
      'Content-Length: 2\r\nContent-Length: 8\r\n\r\nok',
      'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
      'X-A: 1\r\n folded\r\nContent-Length: 2\r\n\r\nok',
      'X-A: 1\nContent-Length: 2\n\nok',
      'X-A: a\rb\r\nContent-Length: 2\r\n\r\nok',
      'X-A: a\0b\r\nContent-Length: 2\r\n\r\nok',
    ];
    for (const text of broken) {
      words = `HTTP/1.1 200 OK\r\n${text}`;
      const { results, run } = await place.attempt(
        [],
        [raw(get('/', 'split.example'), 'split.example')],
      );
      expect(results[0]?.value[0].heard, text).toMatch(/^HTTP\/1\.1 502 /);
      const outcome = (await place.entries(run.summary?.run)).find(
        ({ type }) => type === 'outcome',
      );
      expect(outcome, text).toMatchObject({ error: { code: 'upstream.broken' } });
    }
    words = ok;
    const { results } = await place.attempt([], [raw(get('/', 'split.example'), 'split.example')]);
    expect(results[0]?.value[0].heard).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\nok$/);
  },
  { timeoutMs: 90_000 },
);

verifies(
  ['gw.trailers', 'gw.continue'],
  'trailers of an answer pass, and a client that waits is told to go on',
  async () => {
    upstream.answer = (request, reply) => {
      const size = { bytes: 0 };
      request.on('data', (chunk: Buffer) => (size.bytes += chunk.length));
      request.on('end', () => {
        reply.writeHead(200, { trailer: 'x-digest' });
        reply.write(`got ${size.bytes}\n`);
        reply.addTrailers({ 'x-digest': 'abc', 'x-belay-denied': 'no', authorization: 'x' });
        reply.end();
      });
    };
    place.put('body.txt', 'x'.repeat(70_000));
    const curl =
      'curl -sSv -H "expect: 100-continue" --data-binary @body.txt https://api.example/t';
    const run = await place.run([], ['sh', '-c', `${curl} 2>&1`]);
    expect(run.stdout).toMatch(/< HTTP\/1\.1 100 Continue/);
    expect(run.stdout).toContain('got 70000\n');
    const { results } = await place.attempt([], [raw(get('/t'))]);
    const heard: string = results[0]?.value[0].heard;
    expect(heard).toMatch(/got 0\n\r\n0\r\nx-digest: abc\r\n\r\n$/);
    upstream.answer = (_request, reply) => void reply.end('ok\n');
  },
  { timeoutMs: 30_000 },
);

verifies(
  'gw.early-response',
  'an upstream that answers before it has read the body is heard',
  async () => {
    upstream.answer = (request, reply) => {
      request.pause();
      reply.writeHead(413).end('too large\n');
    };
    const sizeBytes = 3 << 20;
    const { results, run } = await place.attempt(
      [],
      [['request', 'https://api.example/early', { method: 'POST', sizeBytes }]],
    );
    expect(results[0]?.value).toMatchObject({ status: 413, text: 'too large\n' });
    const outcome = (await place.entries(run.summary?.run)).find(({ type }) => type === 'outcome');
    expect(outcome).toMatchObject({ status: 413 });
    upstream.answer = (_request, reply) => void reply.end('ok\n');
  },
  { timeoutMs: 30_000 },
);

verifies(
  'gw.sse',
  'each event is with the agent before the next is sent',
  async () => {
    const acks = [1, 2, 3].map(() => Promise.withResolvers<void>());
    upstream.answer = async (request, reply) => {
      if (request.url?.startsWith('/ack')) {
        acks[Number(new URL(request.url, 'https://x').searchParams.get('n')) - 1]?.resolve();
        reply.end();
        return;
      }
      reply.writeHead(200, { 'content-type': 'text/event-stream' });
      for (const [n, { promise }] of acks.entries()) {
        reply.write(`data: ${n}\n\n`);
        await promise;
      }
      reply.end();
    };
    const { results } = await place.attempt(
      [],
      [['events', 'https://api.example/events', 'https://api.example/ack']],
    );
    expect(results[0]).toEqual({ name: 'events', value: ['data: 0', 'data: 1', 'data: 2'] });
    upstream.answer = (_request, reply) => void reply.end('ok\n');
  },
  { timeoutMs: 30_000 },
);

/** RFC 6455: answers each short text with itself, and a close with a close. */
function echoTexts(request: IncomingMessage, socket: Duplex): void {
  const key = request.headers['sec-websocket-key'];
  const accept = createHash('sha1').update(`${key}${GUID}`).digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.on('data', (frame: Buffer) => {
    const size = (frame[1] as number) & 0x7f;
    const mask = frame.subarray(2, 6);
    const text = frame.subarray(6, 6 + size).map((byte, i) => byte ^ (mask[i % 4] as number));
    socket.write(Buffer.concat([Buffer.of(frame[0] as number, size), text]));
    if (((frame[0] as number) & 0xf) === 8) socket.end();
  });
}

verifies(
  'gw.websocket',
  'a WebSocket passes both ways as one call, which the ledger counts and a cap ends',
  async () => {
    upstream.upgrade = echoTexts;
    const asked = ['webSocket', 'wss://api.example/ws?room=1', ['one', 'two', 'three']] as const;
    const { results, run } = await place.attempt([], [asked]);
    expect(results[0]).toEqual({
      name: 'webSocket',
      value: { heard: ['one', 'two', 'three'], code: 1000 },
    });
    const entries = await place.entries(run.summary?.run);
    expect(entries.find(({ type }) => type === 'intent')).toMatchObject({
      kind: 'websocket',
      method: 'GET',
      path: '/ws',
      effect: 'write',
      body: { kind: 'streamed' },
    });
    const outcome = entries.find(({ type }) => type === 'outcome');
    // Three texts and a close with its code: six bytes of head and mask out, two of head back.
    expect(outcome).toMatchObject({
      status: 101,
      sentBytes: 4 * 6 + 13,
      receivedBytes: 4 * 2 + 13,
    });
    expect(outcome).not.toHaveProperty('error');

    const capped = await place.attempt(['--budget', 'bytes=30'], [asked]);
    expect(capped.results[0]?.value.heard.length).toBeLessThan(3);
    const cut = (await place.entries(capped.run.summary?.run)).find(
      ({ type }) => type === 'outcome',
    );
    expect(cut).toMatchObject({ status: 101, error: { code: 'ERR_ABORTED' } });
  },
  { timeoutMs: 60_000 },
);

const HANDSHAKE = (host: string, more = ''): string =>
  `GET /ws HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`;

verifies(
  'gw.websocket',
  'a WebSocket that is denied hears 426, one that its upstream refuses hears why, and odd ones are refused',
  async () => {
    const before = upstream.arrivals.length;
    const { results, run } = await place.attempt(
      [],
      [
        raw(HANDSHAKE('denied.example'), 'denied.example'),
        raw(HANDSHAKE('api.example', 'Content-Length: 5\r\n')),
        raw(HANDSHAKE('api.example', 'Sec-WebSocket-Version: 8\r\n')),
        raw(HANDSHAKE('other.example')),
        raw(`${get('/before', 'api.example', '')}${HANDSHAKE('api.example')}`),
      ],
    );
    const heard = results.map(({ value }) => value[0].heard as string);
    expect(heard[0]).toMatch(/^HTTP\/1\.1 426 [\s\S]*x-belay-denied: policy\.no-permit/);
    for (const text of heard.slice(1, 3)) expect(text).toMatch(/^HTTP\/1\.1 426 /);
    expect(heard[3]).toMatch(/^HTTP\/1\.1 421 /);
    expect(heard[4]).not.toContain('101');
    expect(upstream.arrivals.slice(before).filter(({ url }) => url === '/ws')).toEqual([]);
    expect(denials(await place.entries(run.summary?.run))).toMatchObject([
      { host: 'denied.example', kind: 'websocket', told: { status: 426 } },
    ]);

    upstream.upgrade = (_request, socket) => {
      socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\nX-Why: key\r\n\r\nno\n');
    };
    const refused = await place.attempt([], [raw(HANDSHAKE('api.example'))]);
    expect(refused.results[0]?.value[0].heard).toMatch(
      /^HTTP\/1\.1 401 [\s\S]*x-why: key[\s\S]*\r\n\r\nno\n$/,
    );
  },
  { timeoutMs: 60_000 },
);

verifies(
  'gw.websocket',
  'a kill ends an idle WebSocket at its upstream, and the ledger says that it was stopped',
  async () => {
    const closed = Promise.withResolvers<void>();
    const stands = Promise.withResolvers<void>();
    upstream.upgrade = (request, socket) => {
      echoTexts(request, socket);
      socket.on('close', () => closed.resolve());
      stands.resolve();
    };
    const script =
      'const s = new WebSocket("wss://api.example/ws"); s.onerror = () => {}; setInterval(() => {}, 1000)';
    const started = place.start([], [process.execPath, '-e', script]);
    const run = await place.openRun();
    await stands.promise;
    await place.session.belay(['kill', run]);
    await closed.promise;
    expect((await started.ended).status).toBe(5);
    const outcome = await eventually('the outcome', async () =>
      (await place.entries(run)).find(({ type }) => type === 'outcome'),
    );
    expect(outcome).toMatchObject({ error: { code: 'ERR_STOPPED' } });
  },
  { timeoutMs: 30_000 },
);

const DATABASE = ['--allow', 'tcp://db.example:5432'];

verifies(
  'gw.tcp',
  'bytes of any kind pass where a grant names host and port, and nowhere else',
  async () => {
    const talk = ['talk', 'db.example', 5432, 'hello\n', 800] as const;
    const { results, run } = await place.attempt(DATABASE, [
      talk,
      ['talk', 'db.example', 5433, 'hello\n', 800],
      ['talk', 'api.example', 5432, 'hello\n', 800],
    ]);
    expect(results.map(({ value }) => value.heard)).toEqual(['welcome\nhello\n', '', '']);
    const entries = await place.entries(run.summary?.run);
    expect(entries.filter(({ type }) => type === 'intent')).toMatchObject([
      { kind: 'tunnel', method: 'CONNECT', scheme: 'tcp', host: 'db.example', port: 5432 },
    ]);
    expect(entries.find(({ type }) => type === 'outcome')).toMatchObject({
      sentBytes: 6,
      receivedBytes: 14,
    });
    expect(entries.filter(({ type }) => type === 'net.denial')).toMatchObject([
      { host: 'db.example', port: 5433 },
      { host: 'api.example', port: 5432 },
    ]);

    const without = await place.attempt([], [talk]);
    expect(without.results[0]?.value.heard).toBe('');
    // A grant for HTTP is none for anything else.
    const http = await place.attempt(['--allow', 'db.example:5432'], [talk]);
    expect(http.results[0]?.value.heard).toBe('');
    const shadow = await place.attempt([...DATABASE, '--shadow'], [talk]);
    expect(shadow.results[0]?.value.heard).toBe('');
    expect(denials(await place.entries(shadow.run.summary?.run))).toMatchObject([
      { code: 'shadow.write', kind: 'tunnel' },
    ]);
    const capped = await place.attempt([...DATABASE, '--budget', 'bytes=10'], [talk]);
    expect(capped.results[0]?.value.heard).not.toContain('hello');
  },
  { timeoutMs: 90_000 },
);

verifies(
  'gw.pass-through',
  'a host that is passed through shows its own certificate, to its own name only, and the ledger says so',
  async () => {
    const ca = join(place.workdir, 'pinned.pem');
    place.put('pinned.pem', pinned.caPem);
    const allowed = ['--allow', 'tls://pinned.example'];
    const { results, run } = await place.attempt(allowed, [
      ['issuer', 'pinned.example', 443, { ca }],
      ['issuer', 'pinned.example', 443, { ca, servername: 'api.example' }],
      ['talk', 'pinned.example', 443, 'GET / HTTP/1.1\r\nHost: pinned.example\r\n\r\n', 800],
    ]);
    expect(results[0]?.value).toMatchObject({ trusted: true, names: 'DNS:pinned.example' });
    expect(results[1]?.value).toMatchObject({ error: 'ECONNRESET' });
    expect(results[2]?.value).toMatchObject({ heard: '' });
    const entries = await place.entries(run.summary?.run);
    expect(entries.filter(({ type }) => type === 'intent')).toMatchObject([
      { kind: 'tunnel', method: 'CONNECT', scheme: 'tls', host: 'pinned.example', port: 443 },
    ]);
    const reasons = entries.flatMap((entry) => (entry.type === 'net.denial' ? [entry.reason] : []));
    expect(reasons).toEqual(['the TLS name `api.example` is not `pinned.example`', 'not TLS']);

    // Looked into, the same host has the installation's certificate.
    const inside = await place.attempt(
      ['--allow', 'pinned.example'],
      [['issuer', 'pinned.example', 443]],
    );
    expect(inside.results[0]?.value.issuer).toMatch(/^Belay local authority/);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'gw.ca-import',
  'an imported root is trusted upstream and inside, is recorded, and can go again',
  async () => {
    await using company = await startUpstream(['company.example']);
    await using own = await openPlace({
      allow: ['company.example'],
      upstreams: { 'company.example': { address: company.address } },
    });
    const { session } = own;
    const status = async (host = 'company.example', ...flags: string[]): Promise<string> => {
      const curl = ['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', `https://${host}/`];
      return (await own.run(flags, curl)).stdout;
    };
    expect(await status()).toBe('502');
    const file = own.put('company.pem', company.caPem);
    const imported = await session.belay(['ca', 'import', file]);
    expect(imported).toMatchObject({ status: 0, stdout: '' });
    expect(imported.stderr).toMatch(/^belay: trusts CN=.* \([0-9a-f]{16}\)\n$/);
    expect((await session.belay(['ca', 'import', file])).stderr).toBe('belay: known already\n');
    expect(await status()).toBe('200');
    // Where nobody looks into TLS, the program inside is who has to trust it.
    expect(await status('company.example', '--allow', 'tls://company.example')).toBe('200');
    const { roots } = JSON.parse((await session.belay(['ca', 'list', '--json'])).stdout);
    expect(roots).toHaveLength(1);
    expect((await session.belay(['ca', 'list'])).stdout).toContain(
      roots[0].fingerprint.slice(0, 16),
    );

    // It outlives the daemon.
    await session.belay(['down']);
    expect(await status()).toBe('200');
    const removed = await session.belay(['ca', 'remove', roots[0].fingerprint.slice(0, 16)]);
    expect(removed).toMatchObject({ status: 0 });
    expect(await status()).toBe('502');
    expect((await own.entries()).filter(({ type }) => type.startsWith('ca.'))).toMatchObject([
      { type: 'ca.import', detail: roots[0] },
      { type: 'ca.remove', detail: roots[0] },
    ]);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'gw.ca-import',
  'what is no root is refused in one line',
  async () => {
    const leaf = place.put(
      'leaf.pem',
      createAuthority(Date.now()).mint('x.example', Date.now()).cert,
    );
    const old = place.put(
      'old.pem',
      createAuthority(Date.now() - 6 * 365 * 86_400_000).certificatePem,
    );
    const broken = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
    for (const [args, words] of [
      [['import', place.put('text.pem', 'hello\n')], /there is no certificate in it/],
      [['import', place.put('broken.pem', broken)], /not a certificate/],
      [['import', leaf], /not a certificate of an authority/],
      [['import', old], /has expired/],
      [['import', join(place.workdir, 'missing.pem')], /cannot read/],
      [['remove', 'abcdef0123456789'], /no root/],
    ] as const) {
      const { status, stderr } = await place.session.belay(['ca', ...args]);
      expect(status, stderr).toBe(2);
      expect(stderr).toMatch(words);
      expect(stderr).toMatch(/^belay: error: [^\n]*\n(?:belay: hint: [^\n]*\n)?$/);
    }
  },
  { timeoutMs: 60_000 },
);
