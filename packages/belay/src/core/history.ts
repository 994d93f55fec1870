// What the entries so far add up to: the next index, the latest time, each run's sequence number and
// counts, and the intents that still wait for an outcome. The writer, recovery and the audit fold the
// same entries through the same function, so they cannot disagree. Memory grows with what is open,
// never with the length of the ledger.

import type { Entry } from './entry.ts';
import type { CallId, RunId } from './ids.ts';

export type ComplaintKind = 'index' | 'time' | 'seq' | 'intent' | 'outcome';

export interface Complaint {
  readonly kind: ComplaintKind;
  readonly reason: string;
}

export interface RunTally {
  readonly seq: number;
  /** Intents. */
  readonly calls: number;
  /** Refused calls and refused attempts below HTTP. */
  readonly denials: number;
  /** Both directions, from the outcomes. */
  readonly bytes: number;
}

export interface OpenIntent {
  readonly run: RunId;
  readonly index: number;
}

export interface History {
  /** The number of entries, which is the next index. */
  size(): number;
  lastTs(): number;
  nextSeq(run: RunId): number;
  /** Runs with entries and no `run.close`, in the order of their first entry. */
  openRuns(): ReadonlyMap<RunId, RunTally>;
  /** Intents without an outcome, in order. */
  openIntents(): ReadonlyMap<CallId, OpenIntent>;
  /** Takes the next entry; answers what is wrong with it where it stands, normally nothing. */
  apply(entry: Entry): readonly Complaint[];
}

const NEW_RUN: RunTally = { seq: 0, calls: 0, denials: 0, bytes: 0 };
const NOTHING_WRONG: readonly Complaint[] = [];
// A late entry of a closed run continues its numbers, for as many closed runs as this.
const CLOSED_RUNS_KEPT = 4096;

export function createHistory(): History {
  let size = 0;
  let lastTs = 0;
  const open = new Map<RunId, RunTally>();
  const closed = new Map<RunId, number>();
  const intents = new Map<CallId, OpenIntent>();

  const lastSeq = (run: RunId): number => open.get(run)?.seq ?? closed.get(run) ?? 0;

  const close = (run: RunId, seq: number): void => {
    open.delete(run);
    closed.set(run, seq);
    if (closed.size > CLOSED_RUNS_KEPT) {
      for (const oldest of closed.keys()) {
        closed.delete(oldest);
        break;
      }
    }
  };

  const applyRun = (entry: Entry, run: RunId, seq: number): void => {
    if (entry.type === 'run.close' || closed.has(run)) close(run, seq);
    else open.set(run, tally(open.get(run) ?? NEW_RUN, entry, seq));
  };

  const applyCall = (entry: Entry): Complaint | undefined => {
    switch (entry.type) {
      case 'intent': {
        const repeated = intents.has(entry.call);
        intents.set(entry.call, { run: entry.run, index: entry.index });
        if (!repeated) return undefined;
        return { kind: 'intent', reason: `call \`${entry.call}\` has a second intent` };
      }
      case 'intent.extended': {
        if (intents.get(entry.call)?.run === entry.run) return undefined;
        return { kind: 'intent', reason: `no open intent of call \`${entry.call}\` to extend` };
      }
      case 'outcome':
      case 'outcome.unknown': {
        const intent = intents.get(entry.call);
        intents.delete(entry.call);
        const right =
          intent?.run === entry.run &&
          (entry.type === 'outcome' || entry.intentIndex === intent.index);
        if (right) return undefined;
        return { kind: 'outcome', reason: `no open intent of call \`${entry.call}\`` };
      }
      default:
        return undefined;
    }
  };

  return {
    size: () => size,
    lastTs: () => lastTs,
    nextSeq: (run) => lastSeq(run) + 1,
    openRuns: () => open,
    openIntents: () => intents,
    apply(entry) {
      let wrong: Complaint[] | undefined;
      const complain = (kind: ComplaintKind, reason: string): void => {
        wrong ??= [];
        wrong.push({ kind, reason });
      };
      if (entry.index !== size)
        complain('index', `index ${entry.index} stands where ${size} should`);
      size = entry.index + 1;
      if (entry.ts < lastTs)
        complain('time', `written ${lastTs - entry.ts} ms before its predecessor`);
      lastTs = Math.max(lastTs, entry.ts);
      if (entry.run !== undefined) {
        const seq = entry.seq ?? 0;
        const due = lastSeq(entry.run) + 1;
        if (seq !== due) complain('seq', `run \`${entry.run}\` has ${seq} where ${due} should be`);
        applyRun(entry, entry.run, seq);
      }
      const call = applyCall(entry);
      if (call !== undefined) complain(call.kind, call.reason);
      return wrong ?? NOTHING_WRONG;
    },
  };
}

function tally(before: RunTally, entry: Entry, seq: number): RunTally {
  switch (entry.type) {
    case 'intent':
      return { ...before, seq, calls: before.calls + 1 };
    case 'denial':
    case 'net.denial':
      return { ...before, seq, denials: before.denials + 1 };
    case 'outcome':
      return { ...before, seq, bytes: before.bytes + entry.sentBytes + entry.receivedBytes };
    default:
      return { ...before, seq };
  }
}
