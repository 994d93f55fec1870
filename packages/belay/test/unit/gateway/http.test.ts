import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Call } from '../../../src/core/call.ts';
import { verifies } from '../../verifies.ts';
import { until } from '../upstream/origin.ts';
import { answer, ask, denied, raw, startGateway, throughBridge } from './harness.ts';

const PLAIN = { name: 'api.example.com', port: 80 };
const HOST = 'host: api.example.com\r\n';
const LAST = 'connection: close\r\n';

verifies('core.host', 'a request that could mean two things is refused and reported', async () => {
  await using gw = await startGateway(async () => answer('no'));
  const cases: readonly (readonly [head: string, status: number, reason: string])[] = [
    [`GET / HTTP/1.1\r\nhost: evil.example\r\n`, 421, 'the host field is not `api.example.com:80`'],
    [
      `GET / HTTP/1.1\r\nhost: api.example.com.\r\n`,
      421,
      'the host field is not `api.example.com:80`',
    ],
    [
      `GET / HTTP/1.1\r\nhost: api.example.com:81\r\n`,
      421,
      'the host field is not `api.example.com:80`',
    ],
    [
      `GET / HTTP/1.1\r\nhost: api.example.com:080\r\n`,
      421,
      'the host field is not `api.example.com:80`',
    ],
    [`GET / HTTP/1.1\r\nhost:\r\n`, 421, 'the host field is not `api.example.com:80`'],
    [`GET / HTTP/1.1\r\n`, 400, 'no host field'],
    [`GET / HTTP/1.0\r\n`, 400, 'no host field'],
    [`GET / HTTP/1.1\r\n${HOST}host: evil.example\r\n`, 400, 'more than one host field'],
    [
      `GET http://evil.example/ HTTP/1.1\r\n${HOST}`,
      421,
      'the request target is not on `api.example.com:80`',
    ],
    [
      `GET https://api.example.com/ HTTP/1.1\r\n${HOST}`,
      421,
      'the request target is not on `api.example.com:80`',
    ],
    [
      `GET http://u@api.example.com/ HTTP/1.1\r\n${HOST}`,
      421,
      'the request target is not on `api.example.com:80`',
    ],
    [`OPTIONS * HTTP/1.1\r\n${HOST}`, 400, 'a request target that is no path'],
    [`GET /a/../b HTTP/1.1\r\n${HOST}`, 400, 'a dot segment in the path'],
    [`TRACE / HTTP/1.1\r\n${HOST}`, 405, 'the method TRACE'],
    [
      `GET / HTTP/1.1\r\n${HOST}connection: upgrade\r\nupgrade: websocket\r\n`,
      426,
      'an upgrade to another protocol',
    ],
    [
      `GET / HTTP/1.1\r\n${HOST}connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n`,
      426,
      'an upgrade to another protocol',
    ],
    [
      `POST / HTTP/1.1\r\n${HOST}transfer-encoding: gzip, chunked\r\n`,
      400,
      'a transfer coding other than chunked',
    ],
    [
      `POST / HTTP/1.1\r\n${HOST}expect: 200-ok\r\ncontent-length: 1\r\n`,
      417,
      'an unknown expectation',
    ],
  ];
  for (const [head, status, reason] of cases) {
    const text = await raw(throughBridge(gw.path, PLAIN), `${head}${LAST}\r\n`, 3000);
    expect([head, Number(text.slice(9, 12)), gw.reasons().at(-1)]).toEqual([head, status, reason]);
    expect(text).toContain('x-belay-denied: protocol');
  }
  expect(gw.calls).toEqual([]);
  expect(gw.denials).toHaveLength(cases.length);
});

verifies('core.host', 'what is not HTTP/1.1 in strict form is refused below the call', async () => {
  await using gw = await startGateway(async () => answer('no'));
  for (const bytes of [
    `POST / HTTP/1.1\r\n${HOST}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n`,
    `POST / HTTP/1.1\r\n${HOST}content-length: 5\r\ncontent-length: 6\r\n\r\n`,
    `GET / HTTP/1.1\r\n${HOST}x-a: 1\r\n folded\r\n\r\n`,
    `GET / HTTP/1.1\n${HOST}\n`,
    `GET / HTTP/1.1\r\n${HOST}x a: 1\r\n\r\n`,
    `GET / HTTP/1.1\r\n${HOST}x: a\0b\r\n\r\n`,
    `get / HTTP/1.1\r\n${HOST}\r\n`,
    `GET / HTTP/3.0\r\n${HOST}\r\n`,
    `CONNECT api.example.com:443 HTTP/1.1\r\n${HOST}\r\n`,
    `GET / HTTP/1.1\r\n${HOST}x-a: ${'a'.repeat(17_000)}\r\n\r\n`,
  ]) {
    const before = gw.denials.length;
    const text = await raw(throughBridge(gw.path, PLAIN), bytes);
    expect([bytes, gw.calls.length, gw.denials.length]).toEqual([bytes, 0, before + 1]);
    expect(text).not.toContain('200 OK');
  }
  // In the middle of a body it is the call that breaks, not the parser that guesses.
  const broken = `POST / HTTP/1.1\r\n${HOST}transfer-encoding: chunked\r\n\r\nzz\r\n`;
  await raw(throughBridge(gw.path, PLAIN), broken);
  expect(gw.calls).toEqual([]);
});

test('a Host field may name the port and be written in capitals', async () => {
  await using gw = await startGateway(async () => answer('yes'));
  for (const host of ['api.example.com', 'API.Example.com', 'api.example.com:80']) {
    const got = await ask(throughBridge(gw.path, PLAIN), { path: '/', headers: { host } });
    expect(got.body).toBe('yes');
  }
  const absolute = `GET HTTP://api.example.com:80/p?q HTTP/1.1\r\n${HOST}${LAST}\r\n`;
  expect(await raw(throughBridge(gw.path, PLAIN), absolute)).toContain('yes');
  expect(gw.calls.at(-1)).toMatchObject({ path: '/p', query: 'q' });
});

test('the call holds the fields in order, without those of the connection', async () => {
  await using gw = await startGateway(async () => answer('ok'));
  await raw(
    throughBridge(gw.path, PLAIN),
    `GET / HTTP/1.1\r\n${HOST}X-A: 1\r\nx-a: 2\r\nConnection: X-One\r\nConnection: close, X-Hop\r\nX-Hop: 3\r\nX-One: 4\r\n` +
      'Proxy-Authorization: Basic x\r\nTE: trailers\r\nKeep-Alive: 1\r\nX-Latin: caf\u00e9\r\n\r\n',
  );
  expect(gw.calls[0]?.headers).toEqual([
    ['x-a', '1'],
    ['x-a', '2'],
    ['x-latin', Buffer.from('caf\u00e9').toString('latin1')],
  ]);
});

test('a body of up to 1 MiB is buffered with its digest, a larger one flows', async () => {
  const bodies: string[] = [];
  await using gw = await startGateway(async (call) => {
    bodies.push(`${call.body.kind} ${await digest(call)}`);
    return answer('ok');
  });
  const chunked = { 'transfer-encoding': 'chunked' };
  const sizes = [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20];
  for (const size of sizes) {
    for (const headers of [{}, chunked]) {
      const bytes = Buffer.alloc(size, 'b');
      const socket = throughBridge(gw.path, PLAIN);
      const got = await ask(socket, { method: 'POST', path: '/', headers }, bytes);
      expect(got.status).toBe(200);
    }
  }
  const expected = sizes.flatMap((size) => {
    const sha256 = createHash('sha256').update(Buffer.alloc(size, 'b')).digest('hex');
    const kind = size === 0 ? 'none' : size > 1 << 20 ? 'streamed' : 'buffered';
    return [`${kind} ${sha256}`, `${kind} ${sha256}`];
  });
  expect(bodies).toEqual(expected);
  for (const { body } of gw.calls) {
    if (body.kind !== 'buffered') continue;
    expect(body.sha256).toBe(createHash('sha256').update(body.bytes).digest('hex'));
  }
});

test('a client that asks to continue is told to, for small and large bodies', async () => {
  await using gw = await startGateway(async (call) => answer(await digest(call)));
  for (const size of [5, (1 << 20) + 5]) {
    const body = 'x'.repeat(size);
    const socket = throughBridge(gw.path, PLAIN);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.write(
      `POST / HTTP/1.1\r\n${HOST}${LAST}expect: 100-continue\r\ncontent-length: ${size}\r\n\r\n`,
    );
    await until('100', () => text.includes('100 Continue'));
    socket.write(body);
    await until('200', () => text.includes(createHash('sha256').update(body).digest('hex')));
  }
  expect(gw.calls[0]?.headers).toEqual([['content-length', '5']]);
});

test('a large upload that is denied hears so before its connection closes', async () => {
  await using gw = await startGateway(async () => denied(403, 'no uploads'));
  const socket = throughBridge(gw.path, PLAIN);
  const size = 3 << 20;
  const head = `POST / HTTP/1.1\r\n${HOST}content-length: ${size}\r\n\r\n`;
  const text = await raw(socket, Buffer.concat([Buffer.from(head), Buffer.alloc(size)]));
  expect(text).toContain('403 Forbidden');
  expect(text).toContain('connection: close');
  expect(text).toContain('no uploads');
  const endless = throughBridge(gw.path, PLAIN);
  endless.write(`POST / HTTP/1.1\r\n${HOST}content-length: 99999999999\r\n\r\n`);
  expect(await raw(endless, '', 3000)).toContain('no uploads');
  await until('both are closed', () => gw.gateway.stats().connections === 0);
});

test('a repeated call names the one that it repeats', async () => {
  await using gw = await startGateway(async () => answer('ok'));
  const send = (path: string, body: string) =>
    ask(throughBridge(gw.path, PLAIN), { method: 'POST', path }, body);
  for (const [path, body] of [
    ['/a', '1'],
    ['/a', '1'],
    ['/a', '2'],
    ['/a?x', '1'],
    ['/%61', '1'],
  ] as const) {
    await send(path, body);
  }
  const [first, second] = gw.calls as [Call, Call];
  expect(gw.calls.map(({ retryOf }) => retryOf)).toEqual([
    undefined,
    first.id,
    undefined,
    undefined,
    second.id,
  ]);
});

test('a fault in perform is a 503 and is reported', async () => {
  await using gw = await startGateway(async () => {
    throw new Error('boom');
  });
  const got = await ask(throughBridge(gw.path, PLAIN), { path: '/' });
  expect([got.status, got.body.includes('boom')]).toEqual([503, false]);
  expect(gw.reasons()).toEqual(['a fault: boom']);
  expect(gw.gateway.stats().calls).toBe(0);
});

test('a response that breaks off is cut short, not completed', async () => {
  const { BelayError } = await import('../../../src/core/errors.ts');
  await using gw = await startGateway(async () => ({
    kind: 'response',
    status: 200,
    headers: [],
    body: {
      flow(sink) {
        queueMicrotask(() => sink.write(Buffer.from('half')));
        setTimeout(() => sink.fail(new BelayError('ERR_UPSTREAM', 'gone')), 20);
        return { resume() {}, abort() {} };
      },
    },
  }));
  await expect(ask(throughBridge(gw.path, PLAIN), { path: '/' })).rejects.toThrow(
    /aborted|hang up/,
  );
  expect(gw.gateway.stats().calls).toBe(0);
});

async function digest({ body }: Call): Promise<string> {
  const hash = createHash('sha256');
  if (body.kind === 'buffered') hash.update(body.bytes);
  if (body.kind === 'streamed') for await (const chunk of body.source) hash.update(chunk);
  return hash.digest('hex');
}
