import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import type { Socket } from 'node:net';
import { deflateSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { createUpstream } from '../../../src/upstream/upstream.ts';
import { verifies } from '../../verifies.ts';
import { declare, settled, startOrigin, until } from '../upstream/origin.ts';
import {
  answer,
  ask,
  denied,
  passThrough,
  raw,
  startGateway,
  throughBridge,
  tlsThroughBridge,
} from './harness.ts';

const SITE = { name: 'api.example.com' };
const TOTAL = 64 << 20;
const CHUNK = Buffer.alloc(64 << 10, 'z');

verifies(
  'gw.streaming',
  'an upload and a download of 64 MiB pass byte for byte, little of it held at a time',
  async () => {
    // The origin echoes, so both directions flow at once and the slower end holds the faster back.
    await using origin = await startOrigin((asked, reply) => void asked.pipe(reply), {
      tls: SITE.name,
    });
    await using upstream = createUpstream();
    await using gw = await startGateway(passThrough(upstream, declare(origin.port, SITE.name)));
    const socket = await tlsThroughBridge(gw.path, SITE);
    const sent = createHash('sha256');
    const got = createHash('sha256');
    let gotBytes = 0;
    let left = TOTAL;
    let underWay = 0;
    await new Promise<void>((resolve, reject) => {
      const outgoing = httpRequest(
        { method: 'POST', path: '/', headers: { host: SITE.name }, createConnection: () => socket },
        (incoming) => {
          expect(incoming.statusCode).toBe(200);
          incoming.on('data', (chunk: Buffer) => {
            got.update(chunk);
            gotBytes += chunk.length;
            underWay = Math.max(underWay, TOTAL - left - gotBytes);
          });
          incoming.on('end', resolve).on('error', reject);
        },
      ).on('error', reject);
      const more = (): void => {
        while (left > 0) {
          left -= CHUNK.length;
          sent.update(CHUNK);
          if (!outgoing.write(CHUNK)) {
            outgoing.once('drain', more);
            return;
          }
        }
        outgoing.end();
      };
      more();
    });
    expect(gotBytes).toBe(TOTAL);
    expect(got.digest('hex')).toBe(sent.digest('hex'));
    expect(gw.calls[0]?.body.kind).toBe('streamed');
    // Everything between the client's two ends: the buffers of client, gateway, origin and kernel.
    expect(underWay).toBeGreaterThan(0);
    expect(underWay).toBeLessThan(8 << 20);
  },
  { timeoutMs: 30_000 },
);

verifies(
  'gw.streaming',
  'bodies of one run that start together are held up to a limit of them all, and then they flow',
  async () => {
    const begin = Promise.withResolvers<void>();
    await using gw = await startGateway(async ({ body }) => {
      await begin.promise;
      if (body.kind === 'streamed') for await (const _chunk of body.source);
      return answer('ok');
    });
    const text = 'z'.repeat((1 << 20) - 1);
    const post = (framing: string): Socket => {
      const socket = throughBridge(gw.path, { ...SITE, port: 80 });
      socket.write(`POST / HTTP/1.1\r\nhost: ${SITE.name}\r\n${framing}\r\n\r\n`);
      return socket;
    };
    const kinds = (): readonly string[] => gw.calls.map(({ body }) => body.kind);
    // Each lacks its last byte. Only those that are not to be held become calls before it comes.
    const sockets = Array.from({ length: 100 }, () => {
      const socket = post(`content-length: ${text.length + 1}`);
      socket.write(text);
      return socket;
    });
    await until('what is too much flows', () => kinds().length >= 36);
    expect(new Set(kinds())).toEqual(new Set(['streamed']));
    // What has begun to flow and is not read yet is held as well.
    post('content-length: 2').write('ab');
    await until('one more', () => kinds().length >= 37);
    expect(kinds().at(-1)).toBe('streamed');
    begin.resolve();
    for (const socket of sockets) socket.write('z');
    await until('all are done', () => gw.gateway.stats().calls === 0 && gw.calls.length === 101);
    expect(
      await ask(throughBridge(gw.path, { ...SITE, port: 80 }), { method: 'POST' }, text),
    ).toMatchObject({ status: 200 });
    expect(kinds().at(-1)).toBe('buffered');
  },
  { timeoutMs: 30_000 },
);

const ID = (digit: string): string => digit.repeat(40);
const line = `${ID('a')} ${ID('b')} refs/heads/x\0report-status`;
const COMMANDS = `${(line.length + 4).toString(16).padStart(4, '0')}${line}0000`;
/** Nothing in it shows anything, and to find that out takes as long as it may. */
const SLOW_PACK = Buffer.concat([
  Buffer.from(`${COMMANDS}PACK\0\0\0\x02\0\0\x27\x10`, 'latin1'),
  ...Array.from({ length: 10_000 }, () => Buffer.concat([Buffer.from([0x30]), deflateSync('')])),
]);

function startPush(path: string, bodyBytes: number): Socket {
  const socket = throughBridge(path, { ...SITE, port: 80 });
  const type = 'content-type: application/x-git-receive-pack-request';
  socket.write(
    `POST /x/git-receive-pack HTTP/1.1\r\nhost: ${SITE.name}\r\n${type}\r\ncontent-length: ${bodyBytes}\r\n\r\n`,
  );
  return socket;
}

verifies(
  ['gw.streaming', 'git.push-bounds'],
  'pushes of one run that start together are held up to a limit of them all, and then refused',
  async () => {
    await using gw = await startGateway(async () => denied(403, 'no'));
    const half = Buffer.alloc(127 << 10, 'z');
    half.write(COMMANDS);
    const sockets: Socket[] = [];
    while (sockets.length < 700) {
      const socket = startPush(gw.path, 2 << 20).resume();
      sockets.push(socket);
      await new Promise((resolve) => socket.write(half, resolve));
    }
    // Those that are too many are told so before the rest of them comes.
    await until('too many are refused', () => gw.calls.length >= 700 - 530, 15_000);
    expect(new Set(gw.calls.map(({ push }) => push?.kind === 'unreadable' && push.reason))).toEqual(
      new Set(['not read as a push: the bodies of its run are as many as we hold']),
    );
    for (const socket of sockets) socket.destroy();
    await until('all left', () => gw.gateway.stats().connections === 0, 15_000);
    const socket = startPush(gw.path, COMMANDS.length + 5);
    expect(await raw(socket, `${COMMANDS}PACK1`)).toMatch(/^HTTP\/1\.1 403 /);
    expect(gw.calls.at(-1)?.push).toMatchObject({ kind: 'push', refs: [{ change: 'unproven' }] });
  },
  { timeoutMs: 60_000 },
);

verifies(
  ['gw.streaming', 'git.push-bounds'],
  'a push whose client leaves is read no further, and is reported',
  async () => {
    await using gw = await startGateway(async () => denied(403, 'no'));
    const began = performance.now();
    for (let n = 0; n < 20; n++) {
      const sockets = Array.from({ length: 10 }, () => startPush(gw.path, SLOW_PACK.length));
      for (const socket of sockets) socket.write(SLOW_PACK);
      await until('they are being read', () => gw.gateway.stats().calls === 10);
      for (const socket of sockets) socket.destroy();
      await until('they are off the books', () => gw.gateway.stats().calls === 0);
    }
    await until('all are reported', () => gw.reasons().length === 200);
    expect(new Set(gw.reasons())).toEqual(new Set(['a push whose client left while it was read']));
    expect(gw.calls).toEqual([]);
    // One alone takes a good part of a second.
    expect(performance.now() - began).toBeLessThan(10_000);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'git.push-bounds',
  'of the pushes of one run few wait to be read, and the others are refused',
  async () => {
    await using gw = await startGateway(async () => denied(403, 'no'));
    const sockets = Array.from({ length: 40 }, () => {
      const socket = startPush(gw.path, SLOW_PACK.length).resume();
      socket.write(SLOW_PACK);
      return socket;
    });
    await until('all are judged', () => gw.calls.length === 40, 40_000);
    const kinds = gw.calls.map(({ push }) => push?.kind);
    expect(kinds.filter((kind) => kind === 'push').length).toBeGreaterThanOrEqual(17);
    const refused = gw.calls.flatMap(({ push }) =>
      push?.kind === 'unreadable' ? [push.reason] : [],
    );
    expect(new Set(refused)).toEqual(
      new Set(['not read as a push: too many pushes of its run are being read']),
    );
    for (const socket of sockets) socket.destroy();
  },
  { timeoutMs: 60_000 },
);

verifies(
  'gw.streaming',
  'a client that does not read stops the upstream, and nothing piles up',
  async () => {
    let written = 0;
    await using origin = await startOrigin((_q, reply) => {
      const more = (): void => {
        while (written < TOTAL) {
          written += CHUNK.length;
          if (!reply.write(CHUNK)) {
            reply.once('drain', more);
            return;
          }
        }
        reply.end();
      };
      more();
    });
    await using upstream = createUpstream();
    await using gw = await startGateway(passThrough(upstream, declare(origin.port, SITE.name)));
    const socket = throughBridge(gw.path, { ...SITE, port: 80 });
    socket.write(`GET / HTTP/1.1\r\nhost: ${SITE.name}\r\nconnection: close\r\n\r\n`);
    await until('it flows', () => written > 0);
    expect(await settled(() => written)).toBeLessThan(TOTAL / 2);
    let got = 0;
    socket.on('data', (chunk: Buffer) => {
      got += chunk.length;
    });
    await until('the end', () => socket.readableEnded, 15_000);
    expect(got).toBeGreaterThan(TOTAL);
  },
  { timeoutMs: 30_000 },
);

verifies('gw.streaming', 'an upload moves only as fast as it is read', async () => {
  const held = Promise.withResolvers<void>();
  await using gw = await startGateway(async (call) => {
    if (call.body.kind !== 'streamed') throw new Error(call.body.kind);
    await held.promise;
    let size = 0;
    for await (const chunk of call.body.source) size += chunk.length;
    return answer(`${size}`);
  });
  const socket = await tlsThroughBridge(gw.path, SITE);
  let sent = 0;
  const outgoing = httpRequest({
    method: 'PUT',
    path: '/',
    headers: { host: SITE.name, 'content-length': TOTAL },
    createConnection: () => socket,
  });
  const got = new Promise<string>((resolve) => {
    outgoing.on('response', (incoming) => incoming.setEncoding('utf8').on('data', resolve));
  });
  const more = (): void => {
    while (sent < TOTAL) {
      sent += CHUNK.length;
      if (!outgoing.write(CHUNK)) {
        outgoing.once('drain', more);
        return;
      }
    }
    outgoing.end();
  };
  more();
  expect(await settled(() => sent)).toBeLessThan(TOTAL / 4);
  held.resolve();
  expect(await got).toBe(`${TOTAL}`);
});

test('server-sent events arrive one by one, as they are sent', async () => {
  const next: (() => void)[] = [];
  await using origin = await startOrigin(
    (_q, reply) => {
      reply.writeHead(200, { 'content-type': 'text/event-stream' });
      let n = 0;
      next.push(() => void reply.write(`data: ${n++}\n\n`));
      next.push(() => void reply.end());
      reply.flushHeaders();
    },
    { tls: SITE.name },
  );
  await using upstream = createUpstream();
  await using gw = await startGateway(passThrough(upstream, declare(origin.port, SITE.name)));
  const socket = await tlsThroughBridge(gw.path, SITE);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.write(`GET / HTTP/1.1\r\nhost: ${SITE.name}\r\n\r\n`);
  await until('the head', () => text.includes('text/event-stream'));
  for (let n = 0; n < 3; n++) {
    next[0]?.();
    await until(`event ${n}`, () => text.includes(`data: ${n}\n`));
  }
  next[1]?.();
  await until('the end', () => text.endsWith('0\r\n\r\n'));
});

test('an upstream that answers before it has read the request is heard', async () => {
  await using origin = await startOrigin(
    (_q, reply) => {
      reply.writeHead(413, { connection: 'close' }).end('too large');
    },
    { tls: SITE.name },
  );
  await using upstream = createUpstream();
  await using gw = await startGateway(passThrough(upstream, declare(origin.port, SITE.name)));
  const socket = await tlsThroughBridge(gw.path, SITE);
  const body = Buffer.alloc(3 << 20);
  const got = await ask(socket, { method: 'POST', path: '/' }, body).catch((error) => error);
  // The upstream may reset under the upload before its answer is read; then it is a 502.
  expect([413, 502]).toContain(got.status);
});
