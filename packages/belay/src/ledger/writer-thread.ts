// The writer thread: takes all that queued while the disk worked, and makes it durable with one write
// and one fdatasync, without a timer. Only then is the count of durable entries raised. The first
// failure of any file operation is the last: the thread says why and ends; a failed sync is never
// repeated, because the kernel may have forgotten the pages that it could not write.
// INVARIANT: I2: the durable count never runs ahead of the disk.

import * as path from 'node:path';
import { workerData } from 'node:worker_threads';
import {
  encodeHeader,
  FRAME_HEADER_BYTES,
  MAX_FRAME_BYTES,
  SEGMENT_HEADER_BYTES,
  sealFrame,
  segmentName,
} from '../core/frame.ts';
import type { FileOps } from './file-ops.ts';
import { attachRing, type RingConsumer } from './ring.ts';
import { openSpare, type SpareSegment, writeWhole } from './spare-segment.ts';

export interface WriterSettings {
  readonly ring: SharedArrayBuffer;
  readonly segmentsDir: string;
  readonly segmentBytes: number;
  /** The segment to go on with, and where; offset 0 means that it has no header yet. */
  readonly segment: number;
  readonly offset: number;
  readonly nextIndex: number;
  /** The module whose `fileOps` touch the disk. */
  readonly fileOps: string;
}

const STEP_BYTES = 128 * 1024;
const MAX_BATCH_BYTES = 1 << 20;

function write(ops: FileOps, settings: WriterSettings, ring: RingConsumer): void {
  const { segmentsDir, segmentBytes } = settings;
  let doing = '';
  try {
    let number = settings.segment;
    doing = `opening segment \`${segmentName(number)}\``;
    let fd = ops.open(path.join(segmentsDir, segmentName(number)));
    let sizeBytes = ops.sizeBytes(fd);
    let offset = settings.offset;
    let durable = 0;
    let spare: SpareSegment | undefined;
    const batch = new Uint8Array(SEGMENT_HEADER_BYTES + MAX_BATCH_BYTES + MAX_FRAME_BYTES);

    const prepare = (stepBytes: number): void => {
      doing = `preparing segment \`${segmentName(number + 1)}\``;
      spare ??= openSpare(ops, segmentsDir, number + 1, segmentBytes);
      spare.fill(stepBytes);
    };

    const rotate = (): void => {
      while (spare === undefined || !spare.ready()) prepare(1 << 20);
      ops.close(fd);
      ({ number, fd } = spare);
      sizeBytes = spare.sizeBytes();
      offset = 0;
      spare = undefined;
    };

    const fits = (payloadBytes: number, at: number): boolean =>
      at + FRAME_HEADER_BYTES + payloadBytes <= sizeBytes;

    /** Commits what is in the ring, as far as the segment has room; answers the bytes written. */
    const commit = (): number => {
      if (!fits(ring.peek(), offset)) rotate();
      let end = 0;
      if (offset === 0) {
        batch.set(encodeHeader(number, settings.nextIndex + durable));
        end = SEGMENT_HEADER_BYTES;
      }
      let count = 0;
      for (let length = ring.peek(); length > 0; length = ring.peek()) {
        if (end >= MAX_BATCH_BYTES || !fits(length, offset + end)) break;
        ring.take(batch, end + FRAME_HEADER_BYTES, length);
        end = sealFrame(batch, end, length, offset);
        count++;
      }
      ring.freed();
      doing = `writing to segment \`${segmentName(number)}\``;
      // CRASH: none, a part or all of this batch is on the disk, in any order of its pages. Nothing of
      // it was acknowledged. Recovery keeps its whole frames from the left and cuts the rest.
      writeWhole(ops, fd, batch.subarray(0, end), offset);
      // CRASH: the same; the pages may be in memory only.
      ops.sync(fd);
      // CRASH: durable and not acknowledged; recovery keeps it, and an intent becomes unknown.
      offset += end;
      durable += count;
      ring.durable(durable);
      return end;
    };

    for (;;) {
      const seen = ring.wakes();
      if (ring.peek() > 0) {
        const written = commit();
        // Twice as fast as the segment fills, from its middle on: ready in time under any load.
        const behind = spare === undefined || !spare.ready();
        if (behind && offset > sizeBytes / 2) prepare(Math.max(STEP_BYTES, 2 * written));
      } else if (ring.closing()) {
        ops.close(fd);
        if (spare !== undefined) ops.close(spare.fd);
        return;
      } else if (spare === undefined || !spare.ready()) {
        prepare(STEP_BYTES);
      } else {
        ring.sleep(seen);
      }
    }
  } catch (error) {
    ring.fail(describe(doing, error));
  }
}

function describe(doing: string, error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  const reason = error instanceof Error ? error.message : String(error);
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return `the disk is full (${code}) while ${doing}`;
    case 'EFBIG':
      return `a file size limit was met (${code}) while ${doing}`;
    default:
      return `${doing} failed: ${reason}`;
  }
}

const settings = workerData as WriterSettings;
const ops = (await import(settings.fileOps)) as { readonly fileOps: FileOps };
write(ops.fileOps, settings, attachRing(settings.ring));
