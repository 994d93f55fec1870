// The segment files of a ledger as they lie on the disk: which there are, and their bytes. Verification
// reads through here, with no daemon or beside one: a live writer may be seen in the middle of a
// write, so a last segment that does not end cleanly is read again until it does or stands still.

import type { FileHandle } from 'node:fs/promises';
import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SegmentFile } from '../core/audit.ts';
import { BelayError } from '../core/errors.ts';
import {
  judgeEnd,
  lastNonZero,
  readHeader,
  SEGMENT_HEADER_BYTES,
  scanFrames,
  segmentName,
  segmentNumber,
} from '../core/frame.ts';

const SETTLE_TRIES = 20;
const SETTLE_MS = 25;

export function segmentsDirOf(dir: string): string {
  return path.join(dir, 'segments');
}

/** The numbers of the segment files, which begin at 0 and have no gap; else ERR_LEDGER_DAMAGED. */
export async function listSegments(segmentsDir: string): Promise<readonly number[]> {
  const numbers = (await fs.readdir(segmentsDir))
    .map(segmentNumber)
    .filter((number) => number !== undefined)
    .sort((a, b) => a - b);
  const missing = numbers.findIndex((number, i) => number !== i);
  if (missing >= 0) {
    const name = segmentName(missing);
    throw new BelayError('ERR_LEDGER_DAMAGED', `segment \`${name}\` of the ledger is missing`);
  }
  return numbers;
}

/** Fills `target` from `position` on, as far as the file goes; answers the part that was filled. */
export async function readRange(
  file: FileHandle,
  position: number,
  target: Uint8Array,
): Promise<Uint8Array> {
  let filled = 0;
  while (filled < target.length) {
    const room = target.length - filled;
    const { bytesRead } = await file.read(target, filled, room, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return target.subarray(0, filled);
}

/** Reads whole segments into one buffer: the bytes hold until the next call. */
export function createSegmentBuffer(segmentsDir: string): (number: number) => Promise<Uint8Array> {
  let buffer = new Uint8Array(0);
  return async (number) => {
    await using file = await fs.open(path.join(segmentsDir, segmentName(number)), 'r');
    const sizeBytes = (await file.stat()).size;
    if (buffer.length < sizeBytes) buffer = new Uint8Array(sizeBytes);
    return readRange(file, 0, buffer.subarray(0, sizeBytes));
  };
}

/** The header alone. */
export async function readHead(segmentsDir: string, number: number): Promise<Uint8Array> {
  await using file = await fs.open(path.join(segmentsDir, segmentName(number)), 'r');
  return readRange(file, 0, new Uint8Array(SEGMENT_HEADER_BYTES));
}

/**
 * The ledger's segments for `verifySegments`, one at a time, without spares. A daemon may write
 * meanwhile: what goes to a segment that was unused at the call is left out. Gaps in the numbers are
 * left for the audit to find.
 */
export async function* segmentFiles(dir: string): AsyncGenerator<SegmentFile> {
  const segmentsDir = segmentsDirOf(dir);
  const numbers = (await fs.readdir(segmentsDir))
    .map(segmentNumber)
    .filter((number) => number !== undefined)
    .sort((a, b) => a - b);
  const readSegment = createSegmentBuffer(segmentsDir);
  // Which is the last in use is settled before the first is read: those before it change no more.
  let last = numbers.length - 1;
  while (last >= 0 && lastNonZero(await readSegment(numbers[last] as number), 0) < 0) last--;
  for (const [i, number] of numbers.slice(0, last + 1).entries()) {
    let bytes = await readSegment(number);
    for (let tries = 0; i === last && tries < SETTLE_TRIES && !endsCleanly(bytes); tries++) {
      const before = bytes.slice();
      await sleep(SETTLE_MS);
      bytes = await readSegment(number);
      if (Buffer.compare(bytes, before) === 0) break;
    }
    yield { name: segmentName(number), bytes };
  }
}

function endsCleanly(bytes: Uint8Array): boolean {
  if (readHeader(bytes).kind !== 'header') return judgeEnd(bytes, 0, 0, '').kind === 'clean';
  return scanFrames(bytes, SEGMENT_HEADER_BYTES, () => undefined).kind === 'clean';
}
