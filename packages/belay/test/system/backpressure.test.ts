// Who is slow, or leaves, at either end of a call: the other end waits, nothing piles up in between, and
// what has not begun does not begin.

import { readFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { eventually, NODE, openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const MIB = 1 << 20;
const SIZE = 64 * MIB;
const WAIT_MS = 1_500;
/** In buffers of kernels and programs on the way; far from the whole. */
const MOST_ON_THE_WAY = 24 * MIB;
/** Of one environment to one upstream. */
const MOST_CONNECTIONS = 256;
const MANY_PUSHES = 2_500;

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream(['api.example']);
  place = await openPlace({ allow: ['api.example'], upstreams: { 'api.example': upstream } });
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

/** A push of a branch whose pack takes as long to look through as one may, and shows nothing. */
function slowPush(): Buffer {
  const line = `${'a'.repeat(40)} ${'b'.repeat(40)} refs/heads/x\0report-status`;
  const commands = `${(line.length + 4).toString(16).padStart(4, '0')}${line}0000`;
  const object = Buffer.concat([Buffer.from([0x30]), deflateSync('')]);
  return Buffer.concat([
    Buffer.from(`${commands}PACK\0\0\0\x02\0\0\x27\x10`, 'latin1'),
    ...Array.from({ length: 10_000 }, () => object),
    Buffer.alloc(60_000),
  ]);
}

/** It never falls, so what it is asked of comes first in this file. */
const peakMib = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

verifies(
  'git.push-bounds',
  'an agent that begins pushes and leaves fills neither the memory nor the time of the daemon',
  async () => {
    upstream.answer = (_request, reply) => void reply.end('ok\n');
    const name = place.put('push', slowPush().toString('base64'));
    const script = `const https = require('https');
    const body = Buffer.from(require('fs').readFileSync('${name}', 'latin1'), 'base64');
    const headers = { 'content-type': 'application/x-git-receive-pack-request', 'content-length': 2 << 20 };
    let sent = 0, open = true;
    const begun = Date.now();
    const go = () => {
      const asked = https.request('https://api.example/x/git-receive-pack', { method: 'POST', headers, agent: false });
      asked.on('error', () => {}).on('close', () => open && go());
      asked.write(body, () => { sent += 1; setTimeout(() => asked.destroy(), 30); });
      if (open && (sent >= ${MANY_PUSHES} || Date.now() - begun > 25_000)) last();
    };
    const last = () => {
      open = false;
      const at = Date.now();
      https.get('https://api.example/after', (r) => {
        r.resume().on('end', () => {
          console.log(JSON.stringify({ sent, status: r.statusCode, tookMs: Date.now() - at }));
          process.exit(0);
        });
      });
    };
    for (let i = 0; i < 24; i++) go();`;
    // The first call warms up what a daemon loads once.
    await place.run([], ['curl', '-sS', 'https://api.example/']);
    const { pid } = await place.status();
    const before = peakMib(pid);
    const run = await place.run([], [NODE, '-e', script], { timeoutMs: 45_000 });
    expect(run.status, run.stderr).toBe(0);
    const told = JSON.parse(run.stdout) as Record<'sent' | 'status' | 'tookMs', number>;
    expect(told.status).toBe(200);
    expect(told.sent).toBeGreaterThan(MANY_PUSHES / 5);
    expect(told.tookMs).toBeLessThan(3_000);
    // Kept, all of them would take 800 MiB; of garbage there may be some.
    expect(peakMib(pid) - before).toBeLessThan(500);
    const reported = (await place.entries(run.summary?.run)).filter(
      (entry) =>
        entry.type === 'net.denial' &&
        entry.reason === 'a push whose client left while it was read',
    );
    expect(reported.length).toBeGreaterThan(0);
    expect(upstream.arrivals.filter(({ url }) => url?.includes('receive-pack'))).toEqual([]);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'gw.slow-client',
  'a client that does not read holds its upstream back, and gets everything in the end',
  async () => {
    let written = 0;
    upstream.answer = (_request, reply) => {
      const chunk = Buffer.alloc(65_536);
      const more = (): void => {
        while (written < SIZE) {
          written += chunk.length;
          if (!reply.write(chunk)) return void reply.once('drain', more);
        }
        reply.end();
      };
      more();
    };
    const script = `require('https').get('https://api.example/', (r) => {
      let n = 0;
      r.on('data', (c) => (n += c.length)).on('end', () => console.log(n));
      r.pause();
      setTimeout(() => r.resume(), ${2 * WAIT_MS});
    });`;
    const started = place.start([], [NODE, '-e', script]);
    await eventually('the first bytes', () => written > 0 || undefined);
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    expect(written).toBeLessThan(MOST_ON_THE_WAY);
    expect((await started.ended).status, started.stderr()).toBe(0);
    expect(started.stdout()).toBe(`${SIZE}\n`);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'gw.slow-upstream',
  'an upstream that does not read holds the client back, and gets everything in the end',
  async () => {
    let arrived = 0;
    upstream.answer = (request, reply) => {
      request.on('data', (chunk: Buffer) => (arrived += chunk.length));
      request.on('end', () => reply.end('ok\n'));
      request.pause();
      setTimeout(() => request.resume(), 2 * WAIT_MS);
    };
    const script = `const chunk = Buffer.alloc(65536);
    let accepted = 0;
    const asked = require('https').request('https://api.example/', { method: 'POST' }, (r) => r.resume());
    const more = () => {
      while (accepted < ${SIZE}) {
        accepted += chunk.length;
        if (!asked.write(chunk)) return asked.once('drain', more);
      }
      asked.end();
    };
    asked.on('socket', (socket) => socket.once('secureConnect', () => {
      more();
      setTimeout(() => console.log(accepted), ${WAIT_MS});
    }));`;
    const run = await place.run([], [NODE, '-e', script], { timeoutMs: 40_000 });
    expect(run.status, run.stderr).toBe(0);
    expect(Number(run.stdout)).toBeGreaterThan(0);
    expect(Number(run.stdout)).toBeLessThan(MOST_ON_THE_WAY);
    expect(arrived).toBe(SIZE);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'gw.abort-while-queued',
  'calls that wait for a connection and lose their client are never sent, and those behind them are',
  async () => {
    const held: (() => void)[] = [];
    upstream.answer = (request, reply) => {
      if (request.url === '/held') held.push(() => reply.end('ok\n'));
      else reply.end('ok\n');
    };
    const before = upstream.arrivals.length;
    const script = `const https = require('https');
    const ask = (path) => new Promise((resolve) => {
      const asked = https.get({ host: 'api.example', path, agent: false }, (r) => {
        r.resume().on('end', () => resolve(r.statusCode));
      }).on('error', () => resolve('left'));
      ask.last = asked;
    });
    const all = Array.from({ length: ${MOST_CONNECTIONS} }, () => ask('/held'));
    process.stdin.once('data', async () => {
      const left = Array.from({ length: 8 }, () => { const one = ask('/left'); return [one, ask.last]; });
      const late = ask('/late');
      setTimeout(() => {
        for (const [, asked] of left) asked.destroy();
        setTimeout(() => console.log('go'), 500);
      }, 1500);
      console.log(JSON.stringify([await Promise.all(all.map(async (one) => await one === 200)), await late]));
      process.exit(0);
    });`;
    const started = place.start([], [NODE, '-e', script]);
    await eventually(
      'all connections',
      () => held.length === MOST_CONNECTIONS || undefined,
      30_000,
    );
    started.child.stdin?.write('now\n');
    await eventually('the clients that left', () => started.stdout().includes('go') || undefined);
    for (const release of held) release();
    expect((await started.ended).status, started.stderr()).toBe(0);
    const [answers, late] = JSON.parse(started.stdout().split('\n')[1] as string);
    expect(answers).toEqual(answers.map(() => true));
    expect(late).toBe(200);
    const arrived = upstream.arrivals.slice(before).map(({ url }) => url);
    expect(arrived.filter((url) => url === '/left')).toEqual([]);
    expect(arrived.filter((url) => url === '/late')).toHaveLength(1);
    // Each was a call, with its intent; each has an outcome that says why nothing was sent.
    const entries = await place.entries();
    const left = entries.flatMap((one) =>
      one.type === 'intent' && one.path === '/left' ? [one.call] : [],
    );
    const outcomes = entries.filter(({ type }) => type === 'outcome');
    const ends = left.map((call) => outcomes.find((one) => 'call' in one && one.call === call));
    expect(ends).toMatchObject(
      left.map(() => ({ error: { code: 'upstream.broken' }, receivedBytes: 0 })),
    );
    expect(left).toHaveLength(8);
  },
  { timeoutMs: 90_000 },
);
