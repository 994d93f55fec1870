import fc from 'fast-check';
import { expect } from 'vitest';
import {
  encodeHeader,
  judgeEnd,
  readHeader,
  SEGMENT_HEADER_BYTES,
  scanFrames,
} from '../../../src/core/frame.ts';
import { verifies } from '../../verifies.ts';
import { buildSegment } from './ledgers.ts';

const SECTOR_BYTES = 512;
const payloads = fc.array(
  fc.string({ minLength: 1, maxLength: 900 }).map((s) => JSON.stringify(s)),
  {
    minLength: 1,
    maxLength: 40,
  },
);

function read(bytes: Uint8Array) {
  const found: string[] = [];
  const batches: number[] = [];
  const offsets: number[] = [];
  const header = readHeader(bytes);
  const end =
    header.kind === 'header'
      ? scanFrames(bytes, SEGMENT_HEADER_BYTES, (frame, offset) => {
          found.push(new TextDecoder().decode(frame.payload));
          batches.push(frame.batchOffset);
          offsets.push(offset);
        })
      : judgeEnd(bytes, 0, 0, 'no header');
  return { found, batches, offsets, end };
}

verifies('log.verify', 'what was framed is read back, in order, and ends cleanly', () => {
  fc.assert(
    fc.property(payloads, fc.integer({ min: 1, max: 5 }), (written, perBatch) => {
      const { found, end } = read(buildSegment(written, { perBatch }));
      expect(found).toEqual(written);
      expect(end.kind).toBe('clean');
    }),
  );
});

verifies('log.verify', 'a header says its number and first index, whatever they are', () => {
  fc.assert(
    fc.property(fc.nat(99_999_999), fc.maxSafeNat(), (number, firstIndex) => {
      expect(readHeader(encodeHeader(number, firstIndex))).toEqual({
        kind: 'header',
        number,
        firstIndex,
      });
    }),
  );
});

verifies(
  ['log.torn-tail', 'log.no-lost-ack'],
  'whatever sectors of the last write are lost, all before it stays and nothing half is read',
  () => {
    fc.assert(
      fc.property(
        payloads,
        fc.integer({ min: 1, max: 20 }),
        fc.infiniteStream(fc.boolean()),
        (written, perBatch, landed) => {
          const whole = buildSegment(written, { perBatch });
          const { batches } = read(whole);
          const last = batches.at(-1) as number;
          const durable = written.filter((_, i) => batches[i] !== last);
          // The write begins inside a sector that holds durable bytes; those do not change.
          const after = whole.slice();
          for (let at = last; at < after.length; ) {
            const next = (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES;
            if (!landed.next().value) after.fill(0, at, next);
            at = next;
          }
          const { found, end } = read(after);
          expect(end.kind).not.toBe('damaged');
          expect(found.slice(0, durable.length)).toEqual(durable);
          expect(found).toEqual(written.slice(0, found.length));
        },
      ),
    );
  },
);

verifies('log.verify', 'any changed byte of an earlier write is damage, never a torn tail', () => {
  fc.assert(
    fc.property(
      payloads.filter((p) => p.length >= 2),
      fc.integer({ min: 1, max: 3 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (written, perBatch, where, mask) => {
        const bytes = buildSegment(written, { perBatch });
        const { batches } = read(bytes);
        const last = batches.at(-1) as number;
        fc.pre(last > 0);
        const at = where % last;
        bytes[at] = (bytes[at] as number) ^ mask;
        const header = readHeader(bytes);
        if (header.kind === 'newer') return;
        const { end } = read(bytes);
        expect(end.kind).toBe('damaged');
      },
    ),
    { numRuns: 300 },
  );
});
