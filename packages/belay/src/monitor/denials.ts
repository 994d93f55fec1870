// How a refused attempt gets into the ledger, be it a call or something below one. An agent may be
// refused as often as it likes and chooses the names that are written down, on a disk that all runs
// share: so each entry is bounded, and so is their number. The attempt beyond a run's cap stops the
// run, and from then on nothing is written of what it tries. Attempts in quick succession are answered
// later and later, and then pause the run: honest work has little of them, a search for gaps much.
// What a sub-run is refused counts for its parents too.

import type { DenialEntry, NetDenial } from '../core/entry.ts';
import { excerpt } from '../core/excerpt.ts';
import type { Clock, RunId } from '../core/ids.ts';
import type { Runs } from '../identity/runs.ts';
import { lineageOf } from '../identity/sub-run.ts';
import type { Ledger } from '../ledger/ledger.ts';
import type { MonitoredRun, RunDenials } from './facts.ts';

export interface DenialsParts {
  readonly runs: Runs<MonitoredRun>;
  readonly ledger: Ledger;
  /** The cap is passed, which happens once: the run has to be stopped in this turn. */
  readonly onExhausted: (run: RunId, reason: string) => void;
  /** Too many within a minute: the run has to be paused. */
  readonly onStorm: (run: RunId, reason: string) => void;
  readonly clock: Clock;
}

export interface Recorded {
  /** Durable; false when the run has used up its cap and nothing is written. */
  readonly written: boolean;
  /** How long the one who is refused has to wait for the answer. */
  readonly waitMs: number;
}

export function newDenials(cap: number, perMinute: number): RunDenials {
  return { cap, perMinute, count: 0, recent: 0, reckonedAt: 0 };
}

export interface Denials {
  /** Resolves once the entry is durable. */
  record(denial: DenialEntry | NetDenial): Promise<Recorded>;
}

const MOST_TEXT = 500;
const MOST_KEYS = 8;
const MOST_KEY = 64;
const MOST_REFS = 4;

const UNWRITTEN: Recorded = { written: false, waitMs: 0 };
const LONGEST_WAIT_MS = 2_000;
/** Of what pauses a run: so much is answered at once. */
const AT_ONCE = 0.2;

export function createDenials(parts: DenialsParts): Denials {
  const { runs, ledger, onExhausted, onStorm, clock } = parts;

  /** Counts one attempt more, and answers how long it waits. */
  const reckon = (run: RunId, denials: RunDenials): number => {
    const { perMinute } = denials;
    const now = clock();
    const ranOff = ((now - denials.reckonedAt) / 60_000) * perMinute;
    denials.recent = Math.max(0, denials.recent - Math.max(0, ranOff)) + 1;
    denials.reckonedAt = now;
    const free = perMinute * AT_ONCE;
    const share = Math.min(1, Math.max(0, (denials.recent - free) / (perMinute - free)));
    if (denials.recent > perMinute) {
      denials.recent = 0;
      onStorm(run, `refused more than ${perMinute} times within a minute`);
    }
    return Math.round(share * LONGEST_WAIT_MS);
  };

  return {
    async record(denial) {
      const run = runs.get(denial.run);
      let waitMs = 0;
      const lineage = run === undefined ? [] : lineageOf<MonitoredRun>(run);
      for (const { id, denials } of lineage) {
        // A parent that has ended can be neither stopped nor paused; its sub-run soon is.
        if (runs.get(id) === undefined) continue;
        if (denials.count > denials.cap) return UNWRITTEN;
        denials.count += 1;
        if (denials.count > denials.cap) {
          onExhausted(id, `refused more than ${denials.cap} times, its cap of denials`);
          return UNWRITTEN;
        }
        waitMs = Math.max(waitMs, reckon(id, denials));
      }
      await ledger.append(brief(denial));
      return { written: true, waitMs };
    },
  };
}

/** What was longer ends in `…`. */
function brief(denial: DenialEntry | NetDenial): DenialEntry | NetDenial {
  const reason = excerpt(denial.reason, MOST_TEXT);
  if (denial.type === 'net.denial') {
    return { ...denial, host: excerpt(denial.host, MOST_TEXT), reason };
  }
  const { queryKeys: keys, push } = denial;
  return {
    ...denial,
    path: excerpt(denial.path, MOST_TEXT),
    ...(keys === undefined ? {} : { queryKeys: few(keys) }),
    ...(push === undefined ? {} : { push: briefPush(push) }),
    reason,
  };
}

function few(keys: readonly string[]): readonly string[] {
  const some = keys.slice(0, MOST_KEYS).map((key) => excerpt(key, MOST_KEY));
  return keys.length > MOST_KEYS ? [...some, '…'] : some;
}

/** The names of refs are bounded where they are read. */
function briefPush({ repository, refs }: Pushed): Pushed {
  const more = refs.length - MOST_REFS;
  return {
    repository: excerpt(repository, MOST_TEXT),
    refs: refs.slice(0, MOST_REFS),
    ...(more > 0 ? { more } : {}),
  };
}

type Pushed = NonNullable<DenialEntry['push']>;
