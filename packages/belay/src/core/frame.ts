// The ledger's bytes: a segment is a header and frames in a preallocated file of zeros, and a frame
// is one entry's payload with its length and CRC-32. Pure: bytes in, findings out; recovery, reading
// and verification all go through frameAt() and scanFrames(). A CRC finds accidents, not forgers.
//
//   header  magic "BELAYSEG" | version u32 | segment number u32 | first index u64 | zero u32 | CRC u32
//   frame   CRC u32 | payload length u32 | batch offset u32 | payload
//
// All numbers are big-endian; a frame's CRC covers everything after it. The batch offset says where
// the write that carried the frame began. A write starts only when the one before it is durable, so
// a whole frame whose batch begins past a bad place proves that the bad place was once durable: that
// is damage. Without such a frame the bad place lies in the last write, which may simply be torn.

import { crc32 } from 'node:zlib';

export const SEGMENT_VERSION = 1;
export const SEGMENT_HEADER_BYTES = 32;
export const FRAME_HEADER_BYTES = 12;
/** The limit of a C2SP entry bundle, whose lengths have 16 bits. */
export const MAX_PAYLOAD_BYTES = 65_535;
export const MAX_FRAME_BYTES = FRAME_HEADER_BYTES + MAX_PAYLOAD_BYTES;

const MAGIC = new TextEncoder().encode('BELAYSEG');
const LENGTH_AT = 4;
const BATCH_AT = 8;

export type HeaderRead =
  | { readonly kind: 'header'; readonly number: number; readonly firstIndex: number }
  /** All zeros: preallocated and not written yet. */
  | { readonly kind: 'unused' }
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'bad'; readonly reason: string };

export type FrameRead =
  | {
      readonly kind: 'frame';
      /** A view of the bytes given, not a copy. */
      readonly payload: Uint8Array;
      readonly batchOffset: number;
      readonly nextOffset: number;
    }
  /** A length of zero, or no room for a frame: nothing was written here. */
  | { readonly kind: 'end' }
  /** The frame runs past the bytes given. */
  | { readonly kind: 'short' }
  | { readonly kind: 'bad'; readonly reason: string };

export type ScanEnd =
  /** Frames up to `endOffset`, zeros after it. */
  | { readonly kind: 'clean'; readonly endOffset: number; readonly lastBatchOffset: number }
  /** What follows `endOffset` is the rest of a last write that did not finish. */
  | {
      readonly kind: 'torn';
      readonly endOffset: number;
      readonly lastBatchOffset: number;
      readonly tornBytes: number;
      readonly reason: string;
    }
  /** Bytes that were durable are no longer whole; the next whole frame is at `resumeOffset`. */
  | {
      readonly kind: 'damaged';
      readonly offset: number;
      readonly reason: string;
      readonly resumeOffset: number;
    };

export type Frame = Extract<FrameRead, { kind: 'frame' }>;

export function segmentName(number: number): string {
  return `${String(number).padStart(8, '0')}.seg`;
}

/** The number in a segment's file name, or undefined for any other file. */
export function segmentNumber(name: string): number | undefined {
  return /^\d{8}\.seg$/.test(name) ? Number(name.slice(0, 8)) : undefined;
}

export function encodeHeader(number: number, firstIndex: number): Uint8Array {
  const bytes = new Uint8Array(SEGMENT_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, SEGMENT_VERSION);
  view.setUint32(12, number);
  view.setBigUint64(16, BigInt(firstIndex));
  view.setUint32(28, crc32(bytes.subarray(0, 28)));
  return bytes;
}

export function readHeader(bytes: Uint8Array): HeaderRead {
  const head = bytes.subarray(0, SEGMENT_HEADER_BYTES);
  if (lastNonZero(head, 0) < 0) return { kind: 'unused' };
  if (head.length < SEGMENT_HEADER_BYTES) return { kind: 'bad', reason: 'the header is cut off' };
  if (MAGIC.some((byte, i) => head[i] !== byte)) {
    return { kind: 'bad', reason: 'the header does not begin with the magic' };
  }
  // Before the CRC: only the magic and the version are promised to stay where they are.
  const version = u32(head, 8);
  if (version > SEGMENT_VERSION) return { kind: 'newer', version };
  if (version !== SEGMENT_VERSION || u32(head, 28) !== crc32(head.subarray(0, 28))) {
    return { kind: 'bad', reason: 'the header does not match its CRC' };
  }
  const firstIndex = u32(head, 16) * 2 ** 32 + u32(head, 20);
  return { kind: 'header', number: u32(head, 12), firstIndex };
}

/**
 * Completes a frame whose payload of `payloadBytes` already stands at
 * `offset + FRAME_HEADER_BYTES`; answers the offset after it.
 */
export function sealFrame(
  target: Uint8Array,
  offset: number,
  payloadBytes: number,
  batchOffset: number,
): number {
  const end = offset + FRAME_HEADER_BYTES + payloadBytes;
  putU32(target, offset + LENGTH_AT, payloadBytes);
  putU32(target, offset + BATCH_AT, batchOffset);
  putU32(target, offset, crc32(target.subarray(offset + LENGTH_AT, end)));
  return end;
}

/** Reads the frame that begins at `offset`. */
export function frameAt(bytes: Uint8Array, offset: number): FrameRead {
  if (offset + FRAME_HEADER_BYTES > bytes.length) return { kind: 'end' };
  const length = u32(bytes, offset + LENGTH_AT);
  if (length === 0) return { kind: 'end' };
  if (length > MAX_PAYLOAD_BYTES) return { kind: 'bad', reason: 'the length is out of range' };
  const nextOffset = offset + FRAME_HEADER_BYTES + length;
  if (nextOffset > bytes.length) return { kind: 'short' };
  if (u32(bytes, offset) !== crc32(bytes.subarray(offset + LENGTH_AT, nextOffset))) {
    return { kind: 'bad', reason: 'the bytes do not match their CRC' };
  }
  return {
    kind: 'frame',
    payload: bytes.subarray(offset + FRAME_HEADER_BYTES, nextOffset),
    batchOffset: u32(bytes, offset + BATCH_AT),
    nextOffset,
  };
}

/** Visits the frames of a whole segment from `offset` on and judges how it ends. */
export function scanFrames(
  segment: Uint8Array,
  offset: number,
  visit: (frame: Frame, offset: number) => void,
): ScanEnd {
  let at = offset;
  // The first write of a segment begins with its header.
  let lastBatchOffset = 0;
  for (;;) {
    const read = frameAt(segment, at);
    if (read.kind !== 'frame') {
      const reason = read.kind === 'bad' ? read.reason : 'the frame is cut off';
      return judgeEnd(segment, at, lastBatchOffset, reason);
    }
    visit(read, at);
    lastBatchOffset = read.batchOffset;
    at = read.nextOffset;
  }
}

/** Judges a segment at the first place that holds no whole frame (or no whole header, at 0). */
export function judgeEnd(
  segment: Uint8Array,
  endOffset: number,
  lastBatchOffset: number,
  reason: string,
): ScanEnd {
  // Zeros to the very end: a lost first page of a write leaves zeros with frames behind them.
  const last = lastNonZero(segment, endOffset);
  if (last < 0) return { kind: 'clean', endOffset, lastBatchOffset };
  // A payload is JSON text and so without control bytes: a small length is found in no payload, and
  // nothing that an agent wrote can look like a frame.
  let resumeOffset = -1;
  for (let at = endOffset + 1; at + FRAME_HEADER_BYTES <= last + 1; at++) {
    if (segment[at + LENGTH_AT] !== 0 || segment[at + LENGTH_AT + 1] !== 0) continue;
    const read = frameAt(segment, at);
    if (read.kind !== 'frame') continue;
    if (resumeOffset < 0) resumeOffset = at;
    if (read.batchOffset > endOffset) {
      return { kind: 'damaged', offset: endOffset, reason, resumeOffset };
    }
  }
  return { kind: 'torn', endOffset, lastBatchOffset, tornBytes: last + 1 - endOffset, reason };
}

/** The position of the last byte that is not zero, from `from` on; -1 when there is none. */
export function lastNonZero(bytes: Uint8Array, from: number): number {
  for (let i = bytes.length - 1; i >= from; i--) if (bytes[i] !== 0) return i;
  return -1;
}

function u32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
