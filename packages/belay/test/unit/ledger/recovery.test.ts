import * as fs from 'node:fs';
import { expect } from 'vitest';
import type { Entry } from '../../../src/core/entry.ts';
import { encodeEntry } from '../../../src/core/entry-bytes.ts';
import { lastNonZero } from '../../../src/core/frame.ts';
import { recoverSegments } from '../../../src/ledger/recover.ts';
import { segmentsDirOf } from '../../../src/ledger/segment-files.ts';
import { verifies } from '../../verifies.ts';
import {
  audit,
  buildSegment,
  flip,
  framesOf,
  freshDir,
  intent,
  newCall,
  newRun,
  open,
  outcome,
  patch,
  runClose,
  runOpen,
  SMALL_SEGMENT,
  segmentPath,
  state,
} from './ledgers.ts';

async function readAll(ledger: { read(): AsyncIterable<Entry> }): Promise<Entry[]> {
  return Array.fromAsync(ledger.read());
}

async function written(dir: string, count: number): Promise<void> {
  const { ledger } = await open(dir);
  for (let n = 0; n < count; n++) await ledger.append(state(n));
  await ledger[Symbol.asyncDispose]();
}

verifies(
  'log.torn-tail',
  'a last frame cut at any of its bytes is cut off, and all before it stays',
  async () => {
    const dir = freshDir();
    await written(dir, 5);
    const file = segmentPath(dir, 0);
    const whole = fs.readFileSync(file);
    const last = framesOf(dir).at(-1);
    if (last === undefined) throw new Error('no frames');
    for (let at = last.offset; at < last.nextOffset; at++) {
      const zeroed = Buffer.from(whole).fill(0, at);
      for (const cut of [whole.subarray(0, at), zeroed]) {
        fs.writeFileSync(file, cut);
        const found = await recoverSegments(segmentsDirOf(dir), SMALL_SEGMENT);
        expect(found.history.size()).toBe(4);
        expect(found.offset).toBe(last.offset);
        const tornBytes = lastNonZero(cut, last.offset) + 1 - last.offset;
        expect(found.tornBytes).toBe(Math.max(0, tornBytes));
        const after = fs.readFileSync(file);
        expect(after.length).toBe(SMALL_SEGMENT);
        expect(lastNonZero(after, last.offset)).toBe(-1);
      }
    }
  },
  { timeoutMs: 60_000 },
);

verifies('log.torn-tail', 'the cut is recorded, once, and the ledger goes on', async () => {
  const dir = freshDir();
  await written(dir, 5);
  const last = framesOf(dir).at(-1);
  if (last === undefined) throw new Error('no frames');
  fs.truncateSync(segmentPath(dir, 0), last.nextOffset - 3);
  expect((await audit(dir)).problems.map((p) => p.kind)).toEqual(['tail']);

  const first = await open(dir);
  const tornBytes = last.nextOffset - 3 - last.offset;
  expect(first.recovery).toEqual({ entries: 4, tornBytes, unknown: 0 });
  await first.ledger.append(state(9));
  await first.ledger[Symbol.asyncDispose]();

  const second = await open(dir);
  expect(second.recovery).toEqual({ entries: 6, tornBytes: 0, unknown: 0 });
  const entries = await readAll(second.ledger);
  await second.ledger[Symbol.asyncDispose]();
  const recorded = entries.filter((entry) => entry.type === 'ledger.recovered');
  expect(recorded).toMatchObject([{ index: 4, detail: { tornBytes, unknown: 0, runs: 0 } }]);
  expect(await audit(dir)).toMatchObject({ ok: true, entries: 6 });
});

verifies(
  'log.torn-tail',
  'a first write that tore the header of a new segment leaves the segment a spare',
  async () => {
    const dir = freshDir();
    await written(dir, 3);
    const torn = buildSegment(['{}', '{}'], { number: 1, firstIndex: 3, perBatch: 2 });
    torn.fill(0, 0, 30);
    fs.writeFileSync(segmentPath(dir, 1), torn);
    const { ledger, recovery } = await open(dir);
    expect(recovery.entries).toBe(3);
    expect(recovery.tornBytes).toBeGreaterThan(0);
    const pad = 'x'.repeat(1000);
    for (let n = 0; n < 200; n++) await ledger.append({ ...state(n), detail: { pad } });
    await ledger[Symbol.asyncDispose]();
    expect(await audit(dir)).toMatchObject({ ok: true, entries: 204, segments: 2 });
  },
);

verifies(
  'log.verify',
  'damage in the middle refuses to open and changes nothing on the disk',
  async () => {
    const dir = freshDir();
    await written(dir, 6);
    const file = segmentPath(dir, 0);
    for (const frame of framesOf(dir).slice(0, 5)) {
      const before = fs.readFileSync(file);
      patch(file, frame.offset + 20, flip);
      const damaged = fs.readFileSync(file);
      await expect(open(dir)).rejects.toMatchObject({ code: 'ERR_LEDGER_DAMAGED' });
      expect(fs.readFileSync(file).equals(damaged)).toBe(true);
      fs.writeFileSync(file, before);
    }
    // Also where the bad frame is the last of a segment that others follow.
    const last = framesOf(dir).at(-1);
    const next = buildSegment([encodeEntry(entryAt(6))], { number: 1, firstIndex: 6 });
    fs.writeFileSync(segmentPath(dir, 1), next);
    patch(file, (last?.offset ?? 0) + 20, flip);
    await expect(open(dir)).rejects.toMatchObject({ code: 'ERR_LEDGER_DAMAGED' });
    // A missing segment, too.
    fs.rmSync(file);
    await expect(open(dir)).rejects.toMatchObject({ code: 'ERR_LEDGER_DAMAGED' });
  },
);

function entryAt(index: number): Entry {
  return { ...state(index), v: 1, id: newCall() as never, index, ts: Date.now() };
}

verifies(
  'log.outcome-unknown',
  'an intent without an outcome becomes outcome.unknown, and its run is closed with its counts',
  async () => {
    const dir = freshDir();
    const [left, done] = [newRun(), newRun()];
    const [lost, settled] = [newCall(), newCall()];
    const { ledger } = await open(dir);
    await ledger.append(runOpen(done));
    await ledger.append(runClose(done));
    await ledger.append(runOpen(left));
    await ledger.append(intent(left, settled));
    const { index: intentIndex } = await ledger.append(intent(left, lost));
    await ledger.append(outcome(left, settled));
    await ledger.append({ type: 'net.denial', run: left, host: 'x', port: 1, reason: 'raw' });
    await ledger[Symbol.asyncDispose]();

    const again = await open(dir);
    expect(again.recovery).toEqual({ entries: 7, tornBytes: 0, unknown: 1 });
    const entries = (await readAll(again.ledger)).slice(7);
    expect(entries).toMatchObject([
      { type: 'ledger.recovered', detail: { tornBytes: 0, unknown: 1, runs: 1 } },
      { type: 'outcome.unknown', run: left, call: lost, intentIndex, seq: 6 },
      { type: 'run.close', run: left, seq: 7, reason: 'the daemon died', calls: 2, denials: 1 },
    ]);
    expect(entries[2]).toMatchObject({ bytes: 1100 });
    await again.ledger[Symbol.asyncDispose]();
    expect(await audit(dir)).toMatchObject({ ok: true, openRuns: 0, openIntents: 0 });

    const third = await open(dir);
    expect(third.recovery).toEqual({ entries: 10, tornBytes: 0, unknown: 0 });
    await third.ledger[Symbol.asyncDispose]();
  },
);

verifies('log.outcome-unknown', 'thousands of open intents are closed in one start', async () => {
  const dir = freshDir();
  const run = newRun();
  const { ledger } = await open(dir);
  const calls = Array.from({ length: 900 }, newCall);
  await Promise.all(calls.map((call) => ledger.append(intent(run, call))));
  await Promise.all(calls.map((_, i) => ledger.append(intent(run, `${i}` as never))));
  await ledger[Symbol.asyncDispose]();
  const again = await open(dir);
  expect(again.recovery.unknown).toBe(1800);
  await again.ledger[Symbol.asyncDispose]();
  expect(await audit(dir)).toMatchObject({ ok: true, openIntents: 0 });
});

verifies('log.newer-format', 'a segment or an entry of a newer version is refused', async () => {
  const dir = freshDir();
  await written(dir, 2);
  const file = segmentPath(dir, 0);
  const before = fs.readFileSync(file);
  patch(file, 11, (bytes) => {
    bytes[0] = 2;
  });
  await expect(open(dir)).rejects.toMatchObject({ code: 'ERR_STATE_NEWER' });
  expect((await audit(dir)).problems[0]?.kind).toBe('newer');

  fs.writeFileSync(file, before);
  const newer = { ...entryAt(0), v: 2 } as unknown as Entry;
  fs.writeFileSync(file, buildSegment([encodeEntry(newer)]));
  const held = fs.readFileSync(file);
  await expect(open(dir)).rejects.toMatchObject({ code: 'ERR_STATE_NEWER' });
  expect(fs.readFileSync(file).equals(held)).toBe(true);
});
