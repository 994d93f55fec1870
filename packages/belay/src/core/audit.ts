// Checks a whole ledger from its segments alone, as a stranger would (I9): every frame, every header,
// the canonical form of every entry, indexes, ids, times, run numbers, and that intents and outcomes
// pair up. Trusts nothing but the bytes. What it cannot see: a ledger cut short at a frame's end, or
// rewritten as a whole; for that someone else must have seen its head.

import type { Entry } from './entry.ts';
import { decodeEntry, isCanonical } from './entry-bytes.ts';
import {
  type Frame,
  judgeEnd,
  readHeader,
  type ScanEnd,
  SEGMENT_HEADER_BYTES,
  scanFrames,
} from './frame.ts';
import { type ComplaintKind, createHistory } from './history.ts';

/** A segment file, in the order of their numbers. The bytes are not kept. */
export interface SegmentFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export type ProblemKind =
  | ComplaintKind
  | 'segment' // a header is wrong, or a segment is missing or out of place
  | 'newer' // written by a newer version
  | 'frame' // bytes that were durable are damaged
  | 'tail' // the last write is not whole: a crash cut it off, or someone changed it
  | 'entry' // a payload is no entry
  | 'not-canonical' // a payload is not the canonical form of what it says
  | 'id'; // an id is repeated, or does not carry the entry's time

export interface Problem {
  readonly kind: ProblemKind;
  readonly segment: string;
  readonly offset: number;
  /** The entry, where one can be named. */
  readonly index?: number;
  readonly reason: string;
}

export interface Report {
  readonly ok: boolean;
  readonly entries: number;
  /** Segments with entries in them. */
  readonly segments: number;
  /** The first problems, in order; `problemCount` counts them all. */
  readonly problems: readonly Problem[];
  readonly problemCount: number;
  /** Runs and calls under way at the end of the ledger. */
  readonly openRuns: number;
  readonly openIntents: number;
}

export interface AuditOptions {
  /** How many problems the report lists. */
  readonly maxProblems?: number;
  /** Gets each entry's committed bytes, in order: what a Merkle tree is built from. A view. */
  readonly onPayload?: (index: number, payload: Uint8Array) => void;
}

const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const IDS_KEPT = 65_536;

/** Verifies segments given in order. Holds one at a time. */
export async function verifySegments(
  files: AsyncIterable<SegmentFile> | Iterable<SegmentFile>,
  options: AuditOptions = {},
): Promise<Report> {
  const { maxProblems = 20, onPayload } = options;
  const problems: Problem[] = [];
  let problemCount = 0;
  let entries = 0;
  let segments = 0;
  let position = 0;
  // How the segment before ended, when not cleanly: a tail is a tail only if nothing follows.
  let tail: Problem | undefined;
  const history = createHistory();
  const ids = createIdCheck();

  const report = (problem: Problem): void => {
    problemCount++;
    if (problems.length < maxProblems) problems.push(problem);
  };

  const audit = (frame: Frame, segment: string, offset: number): void => {
    const read = decodeEntry(frame.payload);
    if (read.kind !== 'entry') {
      const kind = read.kind === 'newer' ? 'newer' : 'entry';
      const reason = read.kind === 'newer' ? `entry version ${read.version}` : read.reason;
      report({ kind, segment, offset, reason });
      return;
    }
    const { entry } = read;
    const at = { segment, offset, index: entry.index };
    entries++;
    if (!isCanonical(frame.payload, entry)) {
      report({ kind: 'not-canonical', ...at, reason: 'the bytes are not the canonical JSON' });
    }
    const wrongId = ids(entry);
    if (wrongId !== undefined) report({ kind: 'id', ...at, reason: wrongId });
    for (const { kind, reason } of history.apply(entry)) report({ kind, ...at, reason });
    onPayload?.(entry.index, frame.payload);
  };

  const auditSegment = (name: string, bytes: Uint8Array): void => {
    const header = readHeader(bytes);
    const here = { segment: name, offset: 0 };
    let end: ScanEnd;
    switch (header.kind) {
      case 'newer':
        tail = undefined;
        report({ kind: 'newer', ...here, reason: `segment version ${header.version}` });
        return;
      case 'header':
        if (header.number !== position) {
          const reason = `segment ${header.number} stands where ${position} should`;
          report({ kind: 'segment', ...here, reason });
        }
        if (header.firstIndex !== history.size()) {
          const reason = `begins at index ${header.firstIndex}, not ${history.size()}`;
          report({ kind: 'segment', ...here, reason });
        }
        position = header.number;
        end = scanFrames(bytes, SEGMENT_HEADER_BYTES, (f, at) => audit(f, name, at));
        break;
      case 'unused':
        end = judgeEnd(bytes, 0, 0, 'the header is missing');
        break;
      case 'bad':
        end = judgeEnd(bytes, 0, 0, header.reason);
        break;
    }
    position++;
    if (header.kind === 'unused' && end.kind === 'clean') {
      // A spare segment; one that is followed by entries shows in the next header.
      return;
    }
    segments++;
    if (tail !== undefined) report({ ...tail, kind: 'frame' });
    tail = undefined;
    while (end.kind === 'damaged') {
      report({ kind: 'frame', segment: name, offset: end.offset, reason: end.reason });
      end = scanFrames(bytes, end.resumeOffset, (f, at) => audit(f, name, at));
    }
    if (end.kind === 'torn') {
      const reason = `${end.tornBytes} bytes of an unfinished write: ${end.reason}`;
      tail = { kind: 'tail', segment: name, offset: end.endOffset, reason };
    }
  };

  for await (const { name, bytes } of files) auditSegment(name, bytes);
  if (tail !== undefined) report(tail);
  for (const [call, { run, index }] of history.openIntents()) {
    if (history.openRuns().has(run)) continue;
    const reason = `call \`${call}\` of the closed run \`${run}\` has no outcome`;
    report({ kind: 'intent', segment: '', offset: 0, index, reason });
  }
  return {
    ok: problemCount === 0,
    entries,
    segments,
    problems,
    problemCount,
    openRuns: history.openRuns().size,
    openIntents: history.openIntents().size,
  };
}

/** An id carries its entry's time, and times only grow: a repeated id is among those of one time. */
function createIdCheck(): (entry: Entry) => string | undefined {
  let ts = -1;
  const seen = new Set<string>();
  return (entry) => {
    if (!UUID7.test(entry.id)) return `\`${entry.id}\` is not a UUIDv7`;
    const idTs = Number.parseInt(entry.id.slice(0, 8) + entry.id.slice(9, 13), 16);
    if (idTs !== entry.ts) return `the id carries the time ${idTs}, the entry ${entry.ts}`;
    if (entry.ts !== ts || seen.size >= IDS_KEPT) seen.clear();
    ts = entry.ts;
    if (seen.has(entry.id)) return `id \`${entry.id}\` is repeated`;
    seen.add(entry.id);
    return undefined;
  };
}
