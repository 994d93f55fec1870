import * as fs from 'node:fs';
import { expect } from 'vitest';
import type { EntryBody } from '../../../src/core/entry.ts';
import { verifies } from '../../verifies.ts';
import {
  audit,
  framesOf,
  freshDir,
  intent,
  newCall,
  newRun,
  open,
  outcome,
  runClose,
  runOpen,
  SMALL_SEGMENT,
  segmentPath,
  state,
} from './ledgers.ts';

verifies('log.group-commit', 'entries appended together share one durable write', async () => {
  const dir = freshDir();
  const { ledger } = await open(dir);
  await ledger.append(state(0));
  const receipts = await Promise.all(Array.from({ length: 64 }, (_, n) => ledger.append(state(n))));
  expect(receipts.map((r) => r.index)).toEqual(Array.from({ length: 64 }, (_, n) => n + 1));
  await ledger.append(state(65));
  await ledger[Symbol.asyncDispose]();
  const writes = new Map<number, number>();
  for (const { batchOffset } of framesOf(dir)) {
    writes.set(batchOffset, (writes.get(batchOffset) ?? 0) + 1);
  }
  expect([...writes.values()]).toEqual([1, 64, 1]);
});

verifies(
  'log.group-commit',
  'what queues while the disk works goes into the next write',
  async () => {
    const dir = freshDir();
    const { ledger } = await open(dir, { segmentBytes: 1 << 20 });
    const acked: Promise<unknown>[] = [];
    for (let turn = 0; turn < 200; turn++) {
      for (let n = 0; n < 5; n++) acked.push(ledger.append(state(n)));
      await new Promise(setImmediate);
    }
    await Promise.all(acked);
    await ledger[Symbol.asyncDispose]();
    const writes = new Set(framesOf(dir).map((frame) => frame.batchOffset));
    expect(writes.size).toBeLessThan(200);
    expect(await audit(dir)).toMatchObject({ ok: true, entries: 1000 });
  },
);

verifies(
  'log.run-seq',
  'the entries of a run are numbered from 1, also across a restart',
  async () => {
    const dir = freshDir();
    const [a, b] = [newRun(), newRun()];
    const call = newCall();
    const first = await open(dir);
    const bodies: EntryBody[] = [
      runOpen(a),
      runOpen(b),
      intent(a, call),
      state(1),
      { type: 'net.denial', run: b, host: 'x', port: 1, reason: 'raw' },
      outcome(a, call),
      runClose(a),
    ];
    const receipts = await Promise.all(bodies.map((body) => first.ledger.append(body)));
    expect(receipts).toEqual([
      { index: 0, seq: 1 },
      { index: 1, seq: 1 },
      { index: 2, seq: 2 },
      { index: 3 },
      { index: 4, seq: 2 },
      { index: 5, seq: 3 },
      { index: 6, seq: 4 },
    ]);
    await first.ledger[Symbol.asyncDispose]();
    const second = await open(dir);
    // A late entry of a run that is closed goes on with its numbers: b was closed by the recovery.
    const late = { type: 'guard.thawed' as const, detail: {} };
    expect(await second.ledger.append({ ...late, run: a })).toEqual({ index: 9, seq: 5 });
    expect(await second.ledger.append({ ...late, run: b })).toEqual({ index: 10, seq: 4 });
    await second.ledger[Symbol.asyncDispose]();
    expect(await audit(dir)).toMatchObject({ ok: true, entries: 11 });
  },
);

verifies('log.run-seq', 'a refused entry takes no place', async () => {
  const dir = freshDir();
  const { ledger } = await open(dir);
  const run = newRun();
  const big = { type: 'stop.set' as const, run, detail: { text: 'x'.repeat(70_000) } };
  const torn = { type: 'stop.set' as const, run, detail: { text: '\ud800' } };
  const whole = { type: 'stop.set' as const, run, detail: { text: 'x'.repeat(60_000) } };
  const results = await Promise.allSettled([big, torn, whole].map((body) => ledger.append(body)));
  expect(results).toMatchObject([
    { status: 'rejected', reason: { code: 'ERR_LEDGER' } },
    { status: 'rejected', reason: { code: 'ERR_LEDGER' } },
    { status: 'fulfilled', value: { index: 0, seq: 1 } },
  ]);
  expect(ledger.health()).toEqual({ kind: 'writing' });
  await ledger[Symbol.asyncDispose]();
  expect(await audit(dir)).toMatchObject({ ok: true, entries: 1 });
});

verifies(
  'log.verify',
  'entries read back as they were written, from any index, over segments and a small ring',
  async () => {
    const dir = freshDir();
    const { ledger } = await open(dir, { ringBytes: 1 << 17 });
    const sizes = Array.from({ length: 700 }, (_, n) => (n * 7919) % 5000);
    const acked = sizes.map((size, n) =>
      ledger.append({ type: 'config.load', detail: { n, text: 'é'.repeat(size) } }),
    );
    await Promise.all(acked);
    expect(ledger.size()).toBe(700);
    for (const from of [0, 1, 13, 350, 698, 699, 700, 701]) {
      const entries = await Array.fromAsync(ledger.read(from));
      expect(entries.map((entry) => entry.index)).toEqual(
        Array.from({ length: Math.max(0, 700 - from) }, (_, i) => from + i),
      );
      for (const entry of entries) {
        if (entry.type !== 'config.load') throw new Error(entry.type);
        expect(String(entry.detail.text).length).toBe(sizes[entry.index]);
      }
    }
    // One who follows: each read goes on where the last one ended.
    for (let n = 0; n < 300; n++) {
      await ledger.append(state(n));
      const [entry, ...more] = await Array.fromAsync(ledger.read(700 + n));
      expect(entry).toMatchObject({ index: 700 + n, detail: { n } });
      expect(more).toEqual([]);
    }
    await ledger[Symbol.asyncDispose]();
    expect(fs.existsSync(segmentPath(dir, 5))).toBe(true);
    expect(await audit(dir)).toMatchObject({ ok: true, entries: 1000 });
  },
  { timeoutMs: 30_000 },
);

verifies(
  'log.overload',
  'a flood beyond the queue is refused its intents, and whatever has happened is taken',
  async () => {
    const dir = freshDir();
    const { ledger } = await open(dir, { ringBytes: 1 << 17, segmentBytes: 8 * SMALL_SEGMENT });
    const run = newRun();
    const calls = Array.from({ length: 3000 }, newCall);
    const begun = calls.map((call) => ledger.append(intent(run, call)));
    const ended = calls.map((n) => ledger.append({ type: 'config.load', detail: { n } }));
    const [results] = await Promise.all([Promise.allSettled(begun), Promise.all(ended)]);
    const refused = results.filter((result) => result.status === 'rejected');
    expect(refused.length).toBeGreaterThan(1000);
    for (const { reason } of refused) expect(reason.code).toBe('ERR_LEDGER');
    expect(ledger.health()).toEqual({ kind: 'writing' });
    const taken = calls.filter((_, n) => results[n]?.status === 'fulfilled');
    await Promise.all(taken.map((call) => ledger.append(outcome(run, call))));
    expect(await ledger.append(state(1))).toEqual({ index: 2 * taken.length + 3000 });
    await ledger[Symbol.asyncDispose]();
    await expect(ledger.append(state(2))).rejects.toMatchObject({ code: 'ERR_LEDGER' });
    const entries = 2 * taken.length + 3001;
    expect(await audit(dir)).toMatchObject({ ok: true, entries, openIntents: 0 });
  },
);

verifies(
  ['log.overload', 'log.fsync-fails-once'],
  'entries without end and a disk that does not follow fail the ledger, which drops none in silence',
  async () => {
    const dir = freshDir();
    const { ledger } = await open(dir, { segmentBytes: 8 << 20 });
    const text = 'x'.repeat(60_000);
    const results = await Promise.allSettled(
      Array.from({ length: 1400 }, (_, n) =>
        ledger.append({ type: 'config.load', detail: { n, text } }),
      ),
    );
    expect(ledger.health()).toMatchObject({
      kind: 'failed',
      reason: expect.stringMatching(/entries wait for the disk/),
    });
    const lost = results.filter((result) => result.status === 'rejected');
    expect(lost.length).toBeGreaterThan(1000);
    for (const { reason } of lost) expect(reason.code).toBe('ERR_LEDGER');
    await expect(ledger.append(state(1))).rejects.toMatchObject({ code: 'ERR_LEDGER' });
    await ledger[Symbol.asyncDispose]();
    expect(await audit(dir)).toMatchObject({ ok: true });
  },
  { timeoutMs: 30_000 },
);

verifies(
  'log.verify',
  'a clock that is set back puts no entry before its predecessor',
  async () => {
    const dir = freshDir();
    let now = 1_800_000_000_000;
    const clock = (): number => now;
    const first = await open(dir, { clock });
    await first.ledger.append(state(1));
    now -= 60_000;
    await first.ledger.append(state(2));
    await first.ledger[Symbol.asyncDispose]();
    const second = await open(dir, { clock });
    await second.ledger.append(state(3));
    const times = (await Array.fromAsync(second.ledger.read())).map((entry) => entry.ts);
    expect(times).toEqual(Array(3).fill(1_800_000_000_000));
    await second.ledger[Symbol.asyncDispose]();
    expect(await audit(dir)).toMatchObject({ ok: true });
  },
);
