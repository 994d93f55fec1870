// Reading the ledger back from its segments, in bounded memory, up to what is durable. This is the one
// place where committed payloads come out in order: entries are parsed from them, and a tree of
// hashes over the ledger would be fed from here.

import * as fs from 'node:fs/promises';
import * as path from 'node:path';
import { BelayError } from '../core/errors.ts';
import { frameAt, readHeader, SEGMENT_HEADER_BYTES, segmentName } from '../core/frame.ts';
import { readHead, readRange } from './segment-files.ts';

export interface Payload {
  readonly index: number;
  readonly bytes: Uint8Array;
}

export interface SegmentReader {
  /** The payloads `from` to `until` (exclusive), which must be durable. */
  payloads(from: number, until: number): AsyncGenerator<Payload>;
}

interface Mark {
  readonly segment: number;
  readonly offset: number;
}

// Holds the longest frame several times over.
const WINDOW_BYTES = 256 * 1024;
const MARKS_KEPT = 64;

export function createSegmentReader(
  segmentsDir: string,
  knownFirstIndexes: readonly number[],
): SegmentReader {
  const firstIndexes = [...knownFirstIndexes];
  // Where earlier reads ended: one who follows the ledger goes on without a search.
  const marks = new Map<number, Mark>();

  /** Learns of segments that the writer has begun since. */
  const learn = async (until: number): Promise<void> => {
    for (;;) {
      const number = firstIndexes.length;
      const header = await readHead(segmentsDir, number).then(readHeader, () => undefined);
      // One that was begun after `until` may be half written.
      if (header?.kind !== 'header' || header.firstIndex >= until) return;
      firstIndexes.push(header.firstIndex);
    }
  };

  const remember = (index: number, mark: Mark): void => {
    marks.delete(index);
    marks.set(index, mark);
    if (marks.size <= MARKS_KEPT) return;
    for (const oldest of marks.keys()) {
      marks.delete(oldest);
      return;
    }
  };

  return {
    async *payloads(from, until) {
      if (from >= until) return;
      await learn(until);
      const known = marks.get(from);
      let segment = known?.segment ?? firstIndexes.findLastIndex((first) => first <= from);
      let offset = known?.offset ?? SEGMENT_HEADER_BYTES;
      let index = known === undefined ? (firstIndexes[segment] as number) : from;
      while (index < until) {
        const end = firstIndexes[segment + 1] ?? until;
        await using file = await fs.open(path.join(segmentsDir, segmentName(segment)), 'r');
        while (index < Math.min(end, until)) {
          const window = await readRange(file, offset, new Uint8Array(WINDOW_BYTES));
          let at = 0;
          while (index < Math.min(end, until)) {
            const read = frameAt(window, at);
            if (read.kind !== 'frame') {
              if (at > 0 && read.kind !== 'bad') break;
              throw unreadable(segment, offset + at, index);
            }
            at = read.nextOffset;
            index++;
            if (index > from) yield { index: index - 1, bytes: read.payload };
          }
          offset += at;
        }
        if (index < until) {
          segment++;
          offset = SEGMENT_HEADER_BYTES;
        }
      }
      remember(index, { segment, offset });
    },
  };
}

function unreadable(segment: number, offset: number, index: number): BelayError {
  return new BelayError(
    'ERR_LEDGER_DAMAGED',
    `entry ${index} cannot be read: segment \`${segmentName(segment)}\` is damaged at byte ${offset}`,
    { hint: '`belay log verify` lists what is wrong' },
  );
}
