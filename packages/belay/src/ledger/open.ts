// Opens the ledger: recovers the segments, starts the writer, and writes down what a crash left open.
// When it resolves, every intent has an outcome, every run is closed, and the ledger takes entries.

import type { EntryBody } from '../core/entry.ts';
import { asBelayError, BelayError } from '../core/errors.ts';
import { MAX_FRAME_BYTES, SEGMENT_HEADER_BYTES } from '../core/frame.ts';
import type { Clock, Random } from '../core/ids.ts';
import type { Ledger } from './ledger.ts';
import { recoverSegments } from './recover.ts';
import { MIN_RING_BYTES } from './ring.ts';
import { segmentsDirOf } from './segment-files.ts';
import { SegmentLedger, siblingModule } from './segment-ledger.ts';

export interface OpenOptions {
  /** The ledger's directory; made when it is not there. */
  readonly dir: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly segmentBytes?: number;
  /** Room for entries on their way to the writer; a power of two. */
  readonly ringBytes?: number;
}

export interface Recovery {
  /** Entries found. */
  readonly entries: number;
  /** Bytes of an unfinished last write that were cut off. */
  readonly tornBytes: number;
  /** Intents that became `outcome.unknown`. */
  readonly unknown: number;
}

export interface OpenedLedger {
  readonly ledger: Ledger & AsyncDisposable;
  readonly recovery: Recovery;
}

const SEGMENT_BYTES = 8 * 1024 * 1024;
const MIN_SEGMENT_BYTES = SEGMENT_HEADER_BYTES + MAX_FRAME_BYTES;
const MAX_SEGMENT_BYTES = 1024 * 1024 * 1024;
const RING_BYTES = 1024 * 1024;
const APPENDS_AT_ONCE = 256;

/**
 * Throws ERR_LEDGER_DAMAGED for a ledger that is not whole, ERR_STATE_NEWER for one of a newer
 * version, ERR_LEDGER when the disk refuses.
 */
export function openLedger(options: OpenOptions): Promise<OpenedLedger> {
  return openLedgerOn(options, siblingModule('file-ops'));
}

/** As openLedger, with the module through which the writer thread reaches the disk. */
export async function openLedgerOn(options: OpenOptions, fileOps: URL): Promise<OpenedLedger> {
  const { dir, clock, random, segmentBytes = SEGMENT_BYTES, ringBytes = RING_BYTES } = options;
  if (!(segmentBytes >= MIN_SEGMENT_BYTES && segmentBytes <= MAX_SEGMENT_BYTES)) {
    throw new BelayError('ERR_USAGE', `a segment cannot have ${segmentBytes} bytes`);
  }
  if (!(ringBytes >= MIN_RING_BYTES && Number.isInteger(Math.log2(ringBytes)))) {
    throw new BelayError('ERR_USAGE', `a ring cannot have ${ringBytes} bytes`);
  }
  const segmentsDir = segmentsDirOf(dir);
  const recovered = await recoverSegments(segmentsDir, segmentBytes).catch((error: unknown) => {
    throw asBelayError('ERR_LEDGER', `the ledger in \`${dir}\` cannot be opened`, error);
  });
  const { history, tornBytes } = recovered;
  const recovery = { entries: history.size(), tornBytes, unknown: history.openIntents().size };
  // Before the first append, which changes what is open.
  const closing = [...whatACrashLeft(recovered)];
  const ledger = new SegmentLedger(recovered, {
    segmentsDir,
    segmentBytes,
    ringBytes,
    clock,
    random,
    fileOps,
  });
  try {
    // CRASH: some of these are durable; the next start finds the others still open.
    for (let i = 0; i < closing.length; i += APPENDS_AT_ONCE) {
      const some = closing.slice(i, i + APPENDS_AT_ONCE);
      await Promise.all(some.map((body) => ledger.append(body)));
    }
  } catch (error) {
    await ledger[Symbol.asyncDispose]();
    throw error;
  }
  return { ledger, recovery };
}

function* whatACrashLeft(
  recovered: Awaited<ReturnType<typeof recoverSegments>>,
): Generator<EntryBody> {
  const { history, tornBytes } = recovered;
  const unknown = history.openIntents();
  const runs = history.openRuns();
  if (tornBytes > 0 || unknown.size > 0 || runs.size > 0) {
    const detail = { tornBytes, unknown: unknown.size, runs: runs.size };
    yield { type: 'ledger.recovered', detail };
  }
  for (const [call, { run, index }] of unknown) {
    yield { type: 'outcome.unknown', run, call, intentIndex: index };
  }
  for (const [run, { calls, denials, bytes }] of runs) {
    yield { type: 'run.close', run, reason: 'the daemon died', calls, denials, bytes };
  }
}
