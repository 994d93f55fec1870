// The segment after the current one, made ahead of need: zeros, durable in size and name, so that a
// commit never waits for the file system to find room. It is filled piece by piece between commits.
// A segment counts as used only once a header is in it, so an unfinished spare harms nobody.

import * as path from 'node:path';
import { segmentName } from '../core/frame.ts';
import type { FileOps } from './file-ops.ts';

export interface SpareSegment {
  readonly number: number;
  readonly fd: number;
  sizeBytes(): number;
  ready(): boolean;
  /** Adds `stepBytes` of durable zeros, at most. */
  fill(stepBytes: number): void;
}

const ZEROS = new Uint8Array(1 << 20);

export function openSpare(
  ops: FileOps,
  segmentsDir: string,
  number: number,
  segmentBytes: number,
): SpareSegment {
  // CRASH: a file with zeros, perhaps short or without a durable name; the next start goes on with it.
  const fd = ops.open(path.join(segmentsDir, segmentName(number)));
  let filled = ops.sizeBytes(fd);
  let named = false;
  return {
    number,
    fd,
    sizeBytes: () => filled,
    ready: () => named && filled >= segmentBytes,
    fill(stepBytes) {
      const step = Math.min(stepBytes, segmentBytes - filled, ZEROS.length);
      if (step > 0) {
        // A short write of zeros loses nothing; the next one says why, such as a full disk.
        const written = ops.write(fd, ZEROS.subarray(0, step), filled);
        if (written === 0) throw new Error('nothing was written');
        ops.sync(fd);
        filled += written;
      }
      if (filled < segmentBytes || named) return;
      // Synced again although each piece was: an earlier process may have written the first ones.
      ops.sync(fd);
      ops.syncDir(segmentsDir);
      named = true;
    },
  };
}

/** One write; a short one is a failure, because what the disk did with the rest is unknown. */
export function writeWhole(ops: FileOps, fd: number, bytes: Uint8Array, offset: number): void {
  const written = ops.write(fd, bytes, offset);
  if (written !== bytes.length) {
    throw new Error(`short write: ${written} of ${bytes.length} bytes`);
  }
}
