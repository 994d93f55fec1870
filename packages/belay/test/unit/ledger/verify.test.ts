import * as fs from 'node:fs';
import * as path from 'node:path';
import { beforeEach, expect } from 'vitest';
import type { Entry } from '../../../src/core/entry.ts';
import { encodeEntry } from '../../../src/core/entry-bytes.ts';
import { type ProblemKind, verifySegments } from '../../../src/verify.ts';
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
  segmentPath,
  state,
} from './ledgers.ts';

type Mutable = { -readonly [K in keyof Entry]: Entry[K] } & Record<string, unknown>;

let dir = '';
let entries: Mutable[] = [];

beforeEach(async () => {
  dir = freshDir();
  const { ledger } = await open(dir);
  const run = newRun();
  const calls = [newCall(), newCall()] as const;
  await ledger.append(state(0));
  await ledger.append(runOpen(run));
  for (const call of calls) await ledger.append(intent(run, call));
  for (const call of calls) await ledger.append(outcome(run, call));
  await ledger.append(runClose(run));
  await ledger.append(state(7));
  await ledger[Symbol.asyncDispose]();
  entries = framesOf(dir).map((frame) => JSON.parse(Buffer.from(frame.payload).toString()));
});

const at = (index: number): Mutable => entries[index] as Mutable;

/** Writes the ledger anew, with right CRCs and headers, as one who changes it would. */
function forge(payloads: readonly (Uint8Array | string)[]): void {
  fs.writeFileSync(segmentPath(dir, 0), buildSegment(payloads));
}

const bytesOf = (list: readonly Mutable[]): Uint8Array[] =>
  list.map((entry) => encodeEntry(entry as unknown as Entry));

const renumbered = (list: readonly Mutable[]): Mutable[] =>
  list.map((entry, index) => ({ ...entry, index }) as unknown as Mutable);

async function expectProblem(kind: ProblemKind, index?: number): Promise<void> {
  const report = await audit(dir);
  expect(report.ok).toBe(false);
  const found = report.problems.filter((problem) => problem.kind === kind);
  expect(found, JSON.stringify(report.problems)).not.toEqual([]);
  if (index !== undefined) expect(found[0]?.index).toBe(index);
}

verifies('log.verify', 'a clean ledger passes, and so does its faithful copy', async () => {
  const clean = { ok: true, entries: 8, segments: 1, problemCount: 0, openRuns: 0, openIntents: 0 };
  expect(await audit(dir)).toMatchObject(clean);
  forge(bytesOf(entries));
  expect(await audit(dir)).toMatchObject(clean);
});

verifies('log.verify', 'the committed bytes are handed on in order', async () => {
  const seen: string[] = [];
  const bytes = fs.readFileSync(segmentPath(dir, 0));
  await verifySegments([{ name: '00000000.seg', bytes }], {
    onPayload: (index, payload) => seen.push(`${index} ${Buffer.from(payload)}`),
  });
  expect(seen).toEqual(
    entries.map((entry, i) => `${i} ${Buffer.from(encodeEntry(entry as never))}`),
  );
});

verifies('log.verify', 'a flipped bit in any entry is found', async () => {
  for (const [i, frame] of framesOf(dir).entries()) {
    const before = fs.readFileSync(segmentPath(dir, 0));
    patch(segmentPath(dir, 0), frame.offset + 30, flip);
    await expectProblem(i === entries.length - 1 ? 'tail' : 'frame');
    fs.writeFileSync(segmentPath(dir, 0), before);
  }
});

verifies('log.verify', 'the entries after a damaged one are still audited', async () => {
  const frame = framesOf(dir)[2];
  patch(segmentPath(dir, 0), (frame?.offset ?? 0) + 30, flip);
  const report = await audit(dir);
  expect(report.entries).toBe(7);
  expect(report.problems[0]).toMatchObject({ kind: 'frame', offset: frame?.offset });
  expect(report.problems.map((problem) => problem.kind)).toContain('outcome');
});

verifies('log.verify', 'a header that was changed or wiped is found', async () => {
  const before = fs.readFileSync(segmentPath(dir, 0));
  for (const offset of [0, 12, 20, 29]) {
    patch(segmentPath(dir, 0), offset, flip);
    expect((await audit(dir)).ok).toBe(false);
    fs.writeFileSync(segmentPath(dir, 0), before);
  }
  patch(segmentPath(dir, 0), 0, (bytes) => bytes.fill(0, 0, 32));
  await expectProblem('frame');
});

verifies('log.verify', 'a payload that is not canonical is found', async () => {
  const payloads: (Uint8Array | string)[] = bytesOf(entries);
  payloads[0] = JSON.stringify(at(0), null, 1);
  forge(payloads);
  await expectProblem('not-canonical', 0);
  // A repeated key hides one of its values from most readers.
  payloads[0] = Buffer.from(encodeEntry(at(0) as never))
    .toString()
    .replace('{', '{"detail":{"n":5},');
  forge(payloads);
  await expectProblem('not-canonical', 0);
});

verifies('log.verify', 'a payload that is no entry is found', async () => {
  const rest = bytesOf(entries).slice(1);
  const bad = ['[1]', 'null', '{"v":1}', 'nonsense', Buffer.from([0x22, 0xff, 0x22])];
  for (const payload of bad) {
    forge([payload, ...rest]);
    await expectProblem('entry');
  }
});

verifies(
  'log.verify',
  'a removed entry is found, also when the others are renumbered',
  async () => {
    forge(bytesOf(entries.toSpliced(3, 1)));
    await expectProblem('index', 4);
    forge(bytesOf(renumbered(entries.toSpliced(3, 1))));
    await expectProblem('seq');
  },
);

verifies(
  'log.verify',
  'a repeated entry is found, also when it gets a place of its own',
  async () => {
    forge(bytesOf(entries.toSpliced(1, 0, at(0))));
    await expectProblem('index', 0);
    const twin = { ...at(7), index: 8 } as unknown as Mutable;
    forge(bytesOf([...entries, twin]));
    await expectProblem('id', 8);
  },
);

verifies('log.verify', 'entries that changed places are found', async () => {
  forge(bytesOf(renumbered(entries.with(4, at(5)).with(5, at(4)))));
  await expectProblem('seq', 4);
});

verifies(
  'log.verify',
  'a time before its predecessor, or not that of the id, is found',
  async () => {
    at(4).ts -= 10_000;
    forge(bytesOf(entries));
    await expectProblem('time', 4);
    await expectProblem('id', 4);
  },
);

verifies(
  'log.verify',
  'an outcome without an intent, twice, or of another run, and more of another intent, are found',
  async () => {
    const original = at(4).call;
    at(4).call = newCall();
    forge(bytesOf(entries));
    await expectProblem('outcome', 4);
    at(4).call = at(5).call;
    forge(bytesOf(entries));
    await expectProblem('outcome', 5);
    at(4).call = original;
    at(4).run = newRun();
    at(4).seq = 1;
    forge(bytesOf(entries));
    await expectProblem('outcome', 4);
    const { v, id, index, ts, run, seq } = at(4);
    const more = { type: 'intent.extended', call: original, bytes: 1 };
    entries[4] = { v, id, index, ts, run, seq, ...more } as unknown as Mutable;
    forge(bytesOf(entries));
    await expectProblem('intent', 4);
  },
);

verifies(
  'log.verify',
  'an intent without an outcome is a problem once its run is closed',
  async () => {
    const open = entries.slice(0, 5);
    forge(bytesOf(open));
    expect(await audit(dir)).toMatchObject({ ok: true, openRuns: 1, openIntents: 1 });
    const closed = { ...at(6), index: 5, seq: 5 } as unknown as Mutable;
    forge(bytesOf([...open, closed]));
    await expectProblem('intent', 3);
  },
);

verifies(['log.verify', 'log.newer-format'], 'an unknown entry version is found', async () => {
  Object.assign(at(3), { v: 2 });
  forge(bytesOf(entries));
  await expectProblem('newer');
});

verifies('log.verify', 'a lost, wiped or exchanged segment is found', async () => {
  const [first, second, third] = [entries.slice(0, 3), entries.slice(3, 5), entries.slice(5)];
  const files = [
    buildSegment(bytesOf(first), { number: 0, firstIndex: 0 }),
    buildSegment(bytesOf(second), { number: 1, firstIndex: 3 }),
    buildSegment(bytesOf(third), { number: 2, firstIndex: 5 }),
  ];
  const lay = (order: readonly (Uint8Array | undefined)[]): void => {
    fs.rmSync(path.join(dir, 'segments'), { recursive: true });
    fs.mkdirSync(path.join(dir, 'segments'));
    for (const [i, bytes] of order.entries()) {
      if (bytes !== undefined) fs.writeFileSync(segmentPath(dir, i), bytes);
    }
  };
  const [a, b, c] = files as [Uint8Array, Uint8Array, Uint8Array];
  lay([a, b, c, new Uint8Array(1000)]);
  expect(await audit(dir)).toMatchObject({ ok: true, entries: 8, segments: 3 });
  for (const order of [
    [undefined, b, c],
    [a, undefined, c],
    [a, c, b],
    [a, new Uint8Array(1000), c],
    [a, b.slice(0, 100), c],
  ]) {
    lay(order);
    expect((await audit(dir)).ok).toBe(false);
  }
});

verifies('log.verify', 'a report lists the first problems and counts them all', async () => {
  forge(bytesOf(entries.map((entry) => ({ ...entry, id: 'x' }) as unknown as Mutable)));
  const bytes = fs.readFileSync(segmentPath(dir, 0));
  const report = await verifySegments([{ name: '00000000.seg', bytes }], { maxProblems: 3 });
  expect(report.problems).toHaveLength(3);
  expect(report.problemCount).toBe(8);
});

verifies('log.verify', 'a ledger that is being written verifies at any moment', async () => {
  const { ledger } = await open(dir);
  let writing = true;
  const text = 'x'.repeat(500);
  const writer = (async () => {
    while (writing) {
      const some = Array.from({ length: 20 }, (_, n) =>
        ledger.append({ type: 'config.load', detail: { n, text } }),
      );
      await Promise.all(some);
    }
  })();
  for (let i = 0; i < 15; i++) {
    const least = ledger.size();
    const report = await audit(dir);
    expect(report.problems).toEqual([]);
    expect(report.entries).toBeGreaterThanOrEqual(least);
  }
  writing = false;
  await writer;
  await ledger[Symbol.asyncDispose]();
});
