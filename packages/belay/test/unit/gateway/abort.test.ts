import { expect, test } from 'vitest';
import type { ByteSink, Response } from '../../../src/core/call.ts';
import { createUpstream } from '../../../src/upstream/upstream.ts';
import { verifies } from '../../verifies.ts';
import { declare, startOrigin, until } from '../upstream/origin.ts';
import {
  answer,
  ask,
  denied,
  passThrough,
  startGateway,
  throughBridge,
  tlsThroughBridge,
} from './harness.ts';

const SITE = { name: 'api.example.com' };
const GET = `GET / HTTP/1.1\r\nhost: ${SITE.name}\r\n\r\n`;

/** A response that notes what happens to it. */
function watched(): { readonly response: Response; readonly events: string[]; sink?: ByteSink } {
  const events: string[] = [];
  const state: { response: Response; events: string[]; sink?: ByteSink } = {
    events,
    response: {
      kind: 'response',
      status: 200,
      headers: [],
      body: {
        flow(sink) {
          events.push('flow');
          state.sink = sink;
          return {
            resume: () => events.push('resume'),
            abort: (error) => events.push(`abort ${error.code}`),
          };
        },
      },
    },
  };
  return state;
}

verifies(
  'gw.abort-during-commit',
  'a client that leaves while its intent is written gets nothing, and the answer is aborted',
  async () => {
    for (const over of ['tls', 'plain'] as const) {
      const commit = Promise.withResolvers<void>();
      const state = watched();
      await using gw = await startGateway(async () => {
        await commit.promise;
        return state.response;
      });
      const socket =
        over === 'tls'
          ? await tlsThroughBridge(gw.path, SITE)
          : throughBridge(gw.path, { ...SITE, port: 80 });
      socket.write(GET);
      await until('the call', () => gw.calls.length === 1);
      socket.destroy();
      await until('the call hears of it', () => gw.calls[0]?.signal.aborted === true);
      commit.resolve();
      await until('the answer is aborted', () => state.events.length === 2);
      expect(state.events).toEqual(['flow', 'abort ERR_ABORTED']);
      await until('nothing is left', () => gw.gateway.stats().connections === 0);
      expect(gw.gateway.stats()).toEqual({ runs: 1, connections: 0, calls: 0 });
    }
  },
);

verifies(
  'gw.abort-during-commit',
  'clients that leave in the middle never starve the upstream of connections',
  async () => {
    await using origin = await startOrigin((_q, reply) => reply.end('x'.repeat(200_000)), {
      tls: SITE.name,
    });
    // Two connections only: one parked answer would halve them, two would be the end.
    await using upstream = createUpstream({ maxConnections: 2 });
    const send = passThrough(upstream, declare(origin.port, SITE.name));
    await using gw = await startGateway(async (call) => {
      await new Promise((disk) => setTimeout(disk, Math.random() * 4));
      return send(call);
    });
    for (let round = 0; round < 10; round++) {
      const sockets = await Promise.all(
        Array.from({ length: 8 }, () => tlsThroughBridge(gw.path, SITE)),
      );
      for (const socket of sockets) {
        socket.on('error', () => {}).write(GET);
        setTimeout(() => socket.destroy(), Math.random() * 6);
      }
      await until('they are gone', () => sockets.every(({ closed }) => closed));
    }
    await until('nothing is in flight', () => upstream.stats().inFlight === 0);
    await until('nothing is left', () => gw.gateway.stats().connections === 0);
    for (let i = 0; i < 4; i++) {
      const got = await ask(await tlsThroughBridge(gw.path, SITE), { path: '/' });
      expect(got.body).toHaveLength(200_000);
    }
  },
  { timeoutMs: 20_000 },
);

test('what was sent ahead behind a slow call never begins once its connection is gone', async () => {
  const slow = Promise.withResolvers<Response>();
  await using gw = await startGateway(() => slow.promise);
  const socket = throughBridge(gw.path, { ...SITE, port: 80 });
  socket.write(GET + GET + GET);
  await until('the first', () => gw.calls.length === 1);
  socket.destroy();
  await until('it is aborted', () => gw.calls.every(({ signal }) => signal.aborted));
  expect(gw.gateway.stats().calls).toBe(0);
  slow.resolve(answer('late'));
  await new Promise((wait) => setTimeout(wait, 20));
  expect(gw.calls).toHaveLength(1);
});

test('a client that leaves while its answer flows aborts the flow, and is not written to', async () => {
  const state = watched();
  await using gw = await startGateway(async () => state.response);
  const socket = await tlsThroughBridge(gw.path, SITE);
  socket.write(GET);
  await until('it flows', () => state.events.length === 1);
  expect(state.sink?.write(Buffer.from('first'))).toBe(true);
  socket.destroy();
  await until('it is aborted', () => state.events.length === 2);
  expect(state.events).toEqual(['flow', 'abort ERR_ABORTED']);
  expect(state.sink?.write(Buffer.from('late'))).toBe(false);
});

test('a client that leaves in the middle of its body makes no call', async () => {
  await using gw = await startGateway(async () => answer('no'));
  const socket = throughBridge(gw.path, { ...SITE, port: 80 });
  socket.write(`POST / HTTP/1.1\r\nhost: ${SITE.name}\r\ncontent-length: 10\r\n\r\nhalf`);
  await until('it is in', () => gw.gateway.stats().connections === 1);
  await new Promise((wait) => setTimeout(wait, 20));
  socket.destroy();
  await until('it is gone', () => gw.gateway.stats().connections === 0);
  expect(gw.calls).toEqual([]);
});

test('a client that leaves in the middle of a streamed body breaks the stream', async () => {
  const ends: unknown[] = [];
  await using gw = await startGateway(async (call) => {
    try {
      if (call.body.kind === 'streamed') for await (const _chunk of call.body.source);
      ends.push('whole');
    } catch (error) {
      ends.push((error as { code: string }).code);
    }
    return denied(403, 'late');
  });
  const socket = throughBridge(gw.path, { ...SITE, port: 80 });
  socket.write(`POST / HTTP/1.1\r\nhost: ${SITE.name}\r\ncontent-length: 2000000\r\n\r\nhalf`);
  await until('the call', () => gw.calls.length === 1);
  socket.destroy();
  await until('the stream ends', () => ends.length === 1);
  expect(ends).toEqual(['ERR_ABORTED']);
});

verifies(
  'gw.dead-upstream',
  'a dead upstream is a 502 inside the connection, which lives on',
  async () => {
    await using upstream = createUpstream();
    await using gw = await startGateway(passThrough(upstream, declare(1, SITE.name)));
    const socket = await tlsThroughBridge(gw.path, SITE);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    for (let n = 1; n <= 2; n++) {
      socket.write(GET);
      await until(`answer ${n}`, () => text.split('HTTP/1.1 502 Bad Gateway').length === n + 1);
    }
    expect(text).toContain('x-belay-denied: upstream.unreachable');
    expect(text).toContain('"message":"the upstream could not be reached"');
  },
);

test('an upstream that dies in the middle of its answer cuts the answer short', async () => {
  await using origin = await startOrigin(
    (_q, reply) => {
      reply.writeHead(200, { 'content-length': 100 }).write('half');
      setTimeout(() => reply.destroy(), 20);
    },
    { tls: SITE.name },
  );
  await using upstream = createUpstream();
  await using gw = await startGateway(passThrough(upstream, declare(origin.port, SITE.name)));
  const socket = await tlsThroughBridge(gw.path, SITE);
  await expect(ask(socket, { path: '/' })).rejects.toThrow(/aborted|hang up/);
  await until('nothing is left', () => gw.gateway.stats().connections === 0);
  expect(upstream.stats().inFlight).toBe(0);
});
