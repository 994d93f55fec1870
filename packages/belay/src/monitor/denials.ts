// How a refused attempt gets into the ledger, be it a call or something below one. An agent may be
// refused as often as it likes and chooses the names that are written down, on a disk that all runs
// share: so each entry is bounded, and so is their number. The attempt beyond a run's cap stops the
// run, and from then on nothing is written of what it tries.

import type { DenialEntry, NetDenial } from '../core/entry.ts';
import { excerpt } from '../core/excerpt.ts';
import type { RunId } from '../core/ids.ts';
import type { Runs } from '../identity/runs.ts';
import type { Ledger } from '../ledger/ledger.ts';
import type { MonitoredRun } from './facts.ts';

export interface DenialsParts {
  readonly runs: Runs<MonitoredRun>;
  readonly ledger: Ledger;
  /** The cap is passed, which happens once: the run has to be stopped in this turn. */
  readonly onExhausted: (run: RunId, reason: string) => void;
}

export interface Denials {
  /** True once the entry is durable; false when the run has used up its cap and nothing is written. */
  record(denial: DenialEntry | NetDenial): Promise<boolean>;
}

const MOST_TEXT = 500;
const MOST_KEYS = 8;
const MOST_KEY = 64;

export function createDenials({ runs, ledger, onExhausted }: DenialsParts): Denials {
  return {
    async record(denial) {
      const denials = runs.get(denial.run)?.denials;
      if (denials !== undefined) {
        if (denials.count > denials.cap) return false;
        denials.count += 1;
        if (denials.count > denials.cap) {
          onExhausted(denial.run, `refused more than ${denials.cap} times, its cap of denials`);
          return false;
        }
      }
      await ledger.append(brief(denial));
      return true;
    },
  };
}

/** What was longer ends in `…`. */
function brief(denial: DenialEntry | NetDenial): DenialEntry | NetDenial {
  const reason = excerpt(denial.reason, MOST_TEXT);
  if (denial.type === 'net.denial') {
    return { ...denial, host: excerpt(denial.host, MOST_TEXT), reason };
  }
  const { queryKeys: keys } = denial;
  return {
    ...denial,
    path: excerpt(denial.path, MOST_TEXT),
    ...(keys === undefined ? {} : { queryKeys: few(keys) }),
    reason,
  };
}

function few(keys: readonly string[]): readonly string[] {
  const some = keys.slice(0, MOST_KEYS).map((key) => excerpt(key, MOST_KEY));
  return keys.length > MOST_KEYS ? [...some, '…'] : some;
}
