// Requests that a client sends ahead of their answers, on one connection.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished } from 'vitest';
import { verifies } from '../../verifies.ts';
import { until } from '../upstream/origin.ts';
import { answer, denied, raw, startGateway, throughBridge } from './harness.ts';

const PLAIN = { name: 'api.example.com', port: 80 };
const get = (path: string, host = PLAIN.name): string =>
  `GET ${path} HTTP/1.1\r\nhost: ${host}\r\n`;

verifies(
  'gw.one-at-a-time',
  'what is sent ahead is answered in its order, and one call of it is in progress',
  async () => {
    let now = 0;
    let most = 0;
    await using gw = await startGateway(async (call) => {
      now += 1;
      most = Math.max(most, now);
      await sleep(2);
      now -= 1;
      return call.path === '/no' ? denied(403, 'no') : answer(call.path);
    });
    const post = `POST /body HTTP/1.1\r\nhost: ${PLAIN.name}\r\ncontent-length: 4\r\n\r\nbody`;
    const others = Array.from({ length: 11 }, (_, i) => `${get(`/${i}`)}\r\n`);
    const ahead = [
      `${get('/')}\r\n`,
      `${get('/no')}\r\n`,
      post,
      `${get('/x', 'evil.example')}\r\n`,
    ];
    const last = `${get('/last')}connection: close\r\n\r\n`;
    const got = await raw(throughBridge(gw.path, PLAIN), [...ahead, ...others, last].join(''));
    expect(got.match(/(?<=HTTP\/1\.1 )\d+/g)).toEqual([
      ...['200', '403', '200', '421'],
      ...Array(12).fill('200'),
    ]);
    expect(gw.calls.map(({ path }) => path)).toEqual([
      ...['/', '/no', '/body'],
      ...Array.from({ length: 11 }, (_, i) => `/${i}`),
      '/last',
    ]);
    expect(got).toMatch(/\r\n\r\n\/last$/);
    expect(most).toBe(1);
  },
);

verifies(
  'gw.one-at-a-time',
  'a client that sends thousands of requests ahead is cut, and one call of them was made',
  async () => {
    for (const [path, host, calls] of [
      ['/', PLAIN.name, 1],
      ['/', 'evil.example', 0],
    ] as const) {
      await using gw = await startGateway(() => new Promise(() => {}));
      let parsed = 0;
      const count = (): void => {
        parsed += 1;
      };
      subscribe('http.server.request.start', count);
      onTestFinished(() => void unsubscribe('http.server.request.start', count));
      const socket = throughBridge(gw.path, PLAIN);
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.resume().write(`${get(path, host)}\r\n`.repeat(8_000));
      await closed;
      await until('nothing is left', () => gw.gateway.stats().connections === 0);
      expect(gw.calls).toHaveLength(calls);
      expect(gw.calls.every(({ signal }) => signal.aborted)).toBe(true);
      expect(gw.reasons().filter((why) => why.includes('ahead of their answers'))).toHaveLength(1);
      // What is refused without a call is answered in a turn of its own.
      expect(gw.reasons()).toHaveLength(2 - calls);
      // The others in the same chunk are not even read: they would fill the turn.
      expect(parsed).toBe(17);
    }
  },
);

verifies(
  ['gw.one-at-a-time', 'gw.continue'],
  'behind an answer that is not read yet nothing begins: neither a call, nor a 100, nor a WebSocket',
  async () => {
    const big = 'x'.repeat(5_000_000);
    await using gw = await startGateway(async ({ path }) => answer(path === '/big' ? big : path));
    const after = async (words: string): Promise<string> => {
      const socket = throughBridge(gw.path, PLAIN).pause();
      socket.write(`${get('/big')}\r\n`);
      await until('the answer waits', () => gw.gateway.stats().calls === 0 && gw.calls.length > 0);
      socket.write(words);
      await sleep(100);
      const got = await raw(socket.resume(), '', 500);
      return got.slice(got.indexOf(big) + big.length);
    };
    const ask = 'POST /next HTTP/1.1\r\nhost: api.example.com\r\nexpect: 100-continue\r\n';
    expect(await after(`${ask}content-length: 2\r\n\r\nhi`)).toMatch(
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n\/next$/,
    );
    gw.calls.length = 0;
    const key = 'sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
    await after(`${get('/next')}connection: upgrade\r\nupgrade: websocket\r\n${key}\r\n`);
    expect(gw.calls.map(({ path }) => path)).toEqual(['/big']);
    expect(gw.reasons()).toEqual(['too many requests ahead of their answers']);
  },
);

verifies(
  'gw.one-at-a-time',
  'what is no request does not answer in the place of one that waits',
  async () => {
    const behind = {
      'CONNECT b.example:1 HTTP/1.1\r\nhost: b.example\r\n\r\n':
        'the method CONNECT inside a connection',
      'XXXX\r\n\r\n': 'not HTTP/1.1: HPE_INVALID_METHOD',
    };
    const post = `POST /a HTTP/1.1\r\nhost: ${PLAIN.name}\r\ncontent-length: 2\r\n\r\nhi`;
    for (const first of [`${get('/a')}\r\n`, post]) {
      for (const [text, reason] of Object.entries(behind)) {
        for (const together of [true, false]) {
          await using gw = await startGateway(async () => {
            await sleep(200);
            return answer('a');
          });
          const socket = throughBridge(gw.path, PLAIN);
          if (!together) socket.write(first);
          if (!together) await until('the call', () => gw.calls.length === 1);
          expect(await raw(socket, together ? `${first}${text}` : text)).toBe('');
          expect(gw.reasons()).toEqual([reason]);
          expect(gw.calls.every(({ signal }) => signal.aborted)).toBe(true);
          await until('nothing is left', () => gw.gateway.stats().connections === 0);
        }
      }
    }
    // Behind an answer, and inside the request itself, it is answered.
    await using gw = await startGateway(async () => answer('a'));
    const refused = [
      [`${get('/a', 'evil.example')}\r\nXXXX\r\n\r\n`, /^HTTP\/1\.1 421 [\s\S]*HTTP\/1\.1 400 /],
      [
        `POST /a HTTP/1.1\r\nhost: ${PLAIN.name}\r\ntransfer-encoding: chunked\r\n\r\nzz`,
        /^HTTP\/1\.1 400 /,
      ],
    ] as const;
    for (const [text, heard] of refused) {
      expect(await raw(throughBridge(gw.path, PLAIN), text)).toMatch(heard);
    }
  },
  { timeoutMs: 20_000 },
);

verifies('gw.one-at-a-time', 'a client that was told the end and does not end is cut', async () => {
  await using gw = await startGateway(async () => answer('a'));
  const socket = connect({ path: gw.path, allowHalfOpen: true }).on('error', () => {});
  let heard = '';
  socket.on('data', (chunk) => {
    heard += chunk;
  });
  socket.write(
    `${JSON.stringify({ v: 1, dst: '198.18.0.1', ...PLAIN })}\nGET / HTTP/1.1\r\nno field\r\n\r\n`,
  );
  await until('the answer', () => socket.readableEnded);
  expect(heard).toMatch(/^HTTP\/1\.1 400 /);
  await until('nothing is left', () => gw.gateway.stats().connections === 0, 5_000);
  socket.destroy();
});
