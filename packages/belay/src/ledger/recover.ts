// Brings the segments on the disk to a state that the writer can go on from, and folds what they say.
// A last write that did not finish is cut off; anything else that is not whole is damage, which is
// refused and never touched. Memory is one segment and what is open. After a crash at any point,
// running it again does the rest.

import * as fs from 'node:fs';
import * as path from 'node:path';
import { decodeEntry } from '../core/entry-bytes.ts';
import { BelayError } from '../core/errors.ts';
import {
  type Frame,
  judgeEnd,
  readHeader,
  type ScanEnd,
  SEGMENT_HEADER_BYTES,
  scanFrames,
  segmentName,
} from '../core/frame.ts';
import { createHistory, type History } from '../core/history.ts';
import { fileOps } from './file-ops.ts';
import { createSegmentBuffer, listSegments } from './segment-files.ts';
import { openSpare, writeWhole } from './spare-segment.ts';

export interface Recovered {
  readonly history: History;
  /** The first index of each segment in use. */
  readonly firstIndexes: readonly number[];
  /** Where the writer goes on; offset 0 when the segment has no header yet. */
  readonly segment: number;
  readonly offset: number;
  readonly tornBytes: number;
}

interface Scanned {
  readonly number: number;
  readonly sizeBytes: number;
  readonly end: Exclude<ScanEnd, { kind: 'damaged' }>;
}

export async function recoverSegments(
  segmentsDir: string,
  segmentBytes: number,
): Promise<Recovered> {
  makeDir(segmentsDir);
  const readSegment = createSegmentBuffer(segmentsDir);
  const history = createHistory();
  const firstIndexes: number[] = [];
  let current: Scanned | undefined;
  let torn: Scanned | undefined;

  for (const number of await listSegments(segmentsDir)) {
    const scanned = scan(number, await readSegment(number), history, firstIndexes);
    if (scanned === undefined) continue;
    // The writer enters a segment only when all before it is durable.
    if (torn !== undefined) {
      throw damaged(segmentName(torn.number), torn.end.endOffset, 'not whole and not the last');
    }
    if (scanned.end.kind === 'torn') torn = scanned;
    if (scanned.end.endOffset > 0) current = scanned;
  }

  if (torn !== undefined) cut(segmentsDir, torn);
  if (current !== undefined) settle(segmentsDir, current, segmentBytes);
  else createFirst(segmentsDir, segmentBytes);
  return {
    history,
    firstIndexes,
    segment: current?.number ?? 0,
    offset: current?.end.endOffset ?? 0,
    tornBytes: torn?.end.kind === 'torn' ? torn.end.tornBytes : 0,
  };
}

/** Folds one segment; undefined for one that was never written. */
function scan(
  number: number,
  bytes: Uint8Array,
  history: History,
  firstIndexes: number[],
): Scanned | undefined {
  const name = segmentName(number);
  const header = readHeader(bytes);
  let end: ScanEnd;
  switch (header.kind) {
    case 'newer':
      throw newer(`segment \`${name}\` has format version ${header.version}`);
    case 'header':
      if (header.number !== number || header.firstIndex !== history.size()) {
        throw damaged(name, 0, 'the header is out of place');
      }
      firstIndexes.push(header.firstIndex);
      end = scanFrames(bytes, SEGMENT_HEADER_BYTES, (frame, at) => fold(history, frame, name, at));
      break;
    case 'unused':
      end = judgeEnd(bytes, 0, 0, 'the header is missing');
      break;
    case 'bad':
      end = judgeEnd(bytes, 0, 0, header.reason);
      break;
  }
  if (end.kind === 'damaged') throw damaged(name, end.offset, end.reason);
  if (header.kind === 'unused' && end.kind === 'clean') return undefined;
  return { number, sizeBytes: bytes.length, end };
}

function fold(history: History, frame: Frame, name: string, offset: number): void {
  const read = decodeEntry(frame.payload);
  if (read.kind === 'newer') throw newer(`an entry in \`${name}\` has version ${read.version}`);
  if (read.kind === 'bad') throw damaged(name, offset, read.reason);
  for (const { kind, reason } of history.apply(read.entry)) {
    // Positions are ours to give, so a wrong one is damage. What an entry says about calls and times
    // is for the audit: it must not keep a daemon from starting.
    if (kind === 'index' || kind === 'seq') throw damaged(name, offset, reason);
  }
}

function makeDir(segmentsDir: string): void {
  // CRASH: directories, perhaps without durable names; the next start makes them again.
  const first = fs.mkdirSync(segmentsDir, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  const top = path.dirname(first);
  for (let dir = path.dirname(segmentsDir); dir.length >= top.length; dir = path.dirname(dir)) {
    fileOps.syncDir(dir);
    if (dir === top) return;
  }
}

/** Overwrites an unfinished write with zeros. */
function cut(segmentsDir: string, { number, sizeBytes, end }: Scanned): void {
  const fd = fileOps.open(path.join(segmentsDir, segmentName(number)));
  try {
    // CRASH: a shorter tail, cut by the next start; or, after the sync, a cut that no entry records.
    // Nothing in it was ever acknowledged.
    const zeros = new Uint8Array(sizeBytes - end.endOffset);
    if (zeros.length > 0) writeWhole(fileOps, fd, zeros, end.endOffset);
    fileOps.sync(fd);
  } finally {
    fileOps.close(fd);
  }
}

/** Makes what the current segment shows durable, before anything stands on it. */
function settle(
  segmentsDir: string,
  { number, sizeBytes, end }: Scanned,
  segmentBytes: number,
): void {
  const fd = fileOps.open(path.join(segmentsDir, segmentName(number)));
  try {
    // A write whose sync failed may be whole in memory and marked clean there, and still not on the
    // disk: no later sync would carry it. Writing it again makes it dirty, so that this one does.
    // CRASH: the same bytes, in part old and in part new.
    const { lastBatchOffset, endOffset } = end;
    const batch = new Uint8Array(endOffset - lastBatchOffset);
    const readBytes = fs.readSync(fd, batch, 0, batch.length, lastBatchOffset);
    if (readBytes !== batch.length) throw new Error(`short read of \`${segmentName(number)}\``);
    writeWhole(fileOps, fd, batch, lastBatchOffset);
    const missing = Math.max(0, segmentBytes - sizeBytes);
    if (missing > 0) writeWhole(fileOps, fd, new Uint8Array(missing), sizeBytes);
    fileOps.sync(fd);
  } finally {
    fileOps.close(fd);
  }
}

function createFirst(segmentsDir: string, segmentBytes: number): void {
  const first = openSpare(fileOps, segmentsDir, 0, segmentBytes);
  try {
    while (!first.ready()) first.fill(1 << 20);
  } finally {
    fileOps.close(first.fd);
  }
}

function damaged(name: string, offset: number, reason: string): BelayError {
  return new BelayError(
    'ERR_LEDGER_DAMAGED',
    `the ledger is damaged in segment \`${name}\` at byte ${offset}: ${reason}`,
    { hint: '`belay log verify` lists what is wrong; restore the segment from a copy' },
  );
}

function newer(what: string): BelayError {
  return new BelayError('ERR_STATE_NEWER', `${what}, which this program does not know`, {
    hint: 'use the newer belay that wrote it',
  });
}
