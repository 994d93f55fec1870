// Kills a process that appends to a ledger, over and over, and checks after each time that what it had
// acknowledged is there and that the ledger verifies. Of three rounds one is killed at a random moment,
// one before a write, and one between a write and its sync, with sectors of that write lost.
//   node ledger-crash.ts [ROUNDS]

import { spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { verifySegments } from '../../src/core/audit.ts';
import { openLedger } from '../../src/ledger/open.ts';
import { segmentFiles } from '../../src/ledger/segment-files.ts';
import { SEGMENT_BYTES } from './ledger-shape.ts';

export interface CrashResult {
  readonly rounds: number;
  readonly acknowledged: number;
  /** Acknowledged entries that are not in the ledger afterwards: none, or the ledger is broken. */
  readonly lost: number;
  readonly unknown: number;
  readonly tornBytes: number;
  /** Rounds after which the ledger did not verify. */
  readonly unverified: number;
}

const APPENDER = fileURLToPath(new URL('./ledger-append.ts', import.meta.url));
const DISK = new URL('./failing-disk.ts', import.meta.url).href;
const ROUNDS_PER_LEDGER = 10;
const ROUND_LIMIT_MS = 20_000;
/** How long a held process may go on to acknowledge what it must not. */
const HELD_MS = 30;
const MOMENTS = ['any', 'write', 'sync'] as const;

export async function crashRounds(rounds: number): Promise<CrashResult> {
  const result = { rounds, acknowledged: 0, lost: 0, unknown: 0, tornBytes: 0, unverified: 0 };
  let dir = '';
  for (let round = 0; round < rounds; round++) {
    if (round % ROUNDS_PER_LEDGER === 0) {
      if (dir !== '') fs.rmSync(dir, { recursive: true });
      dir = fs.mkdtempSync(path.join(os.tmpdir(), 'belay-crash-'));
    }
    const acknowledged = await killOne(dir, MOMENTS[round % MOMENTS.length]);
    const { ledger, recovery } = await openLedger({
      dir,
      clock: Date.now,
      random: (sizeBytes) => randomBytes(sizeBytes),
      segmentBytes: SEGMENT_BYTES,
    });
    let missing = acknowledged.size;
    const [first = 0] = acknowledged.keys();
    for await (const entry of ledger.read(first)) {
      const id = acknowledged.get(entry.index);
      if (id !== undefined && 'call' in entry && entry.call === id) missing--;
    }
    await ledger[Symbol.asyncDispose]();
    const report = await verifySegments(segmentFiles(dir));
    result.acknowledged += acknowledged.size;
    result.lost += missing;
    result.unknown += recovery.unknown;
    result.tornBytes += recovery.tornBytes;
    if (!report.ok || report.openIntents > 0 || report.openRuns > 0) result.unverified++;
  }
  if (dir !== '') fs.rmSync(dir, { recursive: true });
  return result;
}

/** Answers what the process acknowledged before it died: index and id. */
async function killOne(
  dir: string,
  moment: (typeof MOMENTS)[number] = 'any',
): Promise<Map<number, string>> {
  const disk = moment === 'any' ? [] : [`${DISK}?hold=${moment}&at=${randomInt(20, 300)}`];
  const child = spawn(process.execPath, [APPENDER, dir, ...disk], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = (): boolean => child.kill('SIGKILL');
  const limit = setTimeout(kill, ROUND_LIMIT_MS);
  let acknowledged = '';
  let said = '';
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    if (acknowledged === '' && moment === 'any') setTimeout(kill, randomInt(10, 250));
    acknowledged += text;
  });
  child.stderr.setEncoding('latin1').on('data', (text: string) => {
    said += text;
    if (said === 'held') setTimeout(kill, HELD_MS);
  });
  await new Promise((resolve) => child.on('close', resolve));
  clearTimeout(limit);
  if (said !== (moment === 'any' ? '' : 'held') || acknowledged === '') {
    throw new Error(`the appending process failed on its own: ${said}`);
  }
  const whole = acknowledged.slice(0, acknowledged.lastIndexOf('\n'));
  return new Map(
    whole.split('\n').map((line) => {
      const [index, id] = line.split(' ') as [string, string];
      return [Number(index), id];
    }),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const result = await crashRounds(Number(process.argv[2] ?? 200));
  console.log(JSON.stringify(result, null, 2));
  if (result.lost > 0 || result.unverified > 0) process.exitCode = 1;
}
