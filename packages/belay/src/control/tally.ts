// A run's totals as they grow, for its summary, for `ps` and for those who watch. The ledger stays
// the record; this is the quick view of a run that is open.

import type { CallHead } from '../core/entry.ts';
import type { RunId } from '../core/ids.ts';
import type { Denial } from '../core/verdict.ts';
import type { Tally } from '../monitor/facts.ts';
import type { DeniedLine } from './protocol.ts';

export interface RunTally extends Tally {
  readonly run: RunId;
  counts(): { calls: number; denials: number; bytes: number; firstCallMs: number | null };
  denied(head: CallHead, denial: Denial): void;
  lines(): readonly DeniedLine[];
}

const MOST_LINES = 200;

/** `remedy` says which flag would allow a denied call, or null when none would. */
export function createTally(
  run: RunId,
  remedy: (head: CallHead, denial: Denial) => string | null,
): RunTally {
  const groups = new Map<string, DeniedLine>();
  let calls = 0;
  let denials = 0;
  let bytes = 0;
  let firstCallMs: number | null = null;
  return {
    run,
    settled({ bytes: moved, firstByteMs }) {
      calls += 1;
      bytes += moved;
      firstCallMs ??= firstByteMs ?? null;
    },
    denied(head, denial) {
      denials += 1;
      const { host, port, method } = head;
      const key = `${denial.code} ${method} ${host}:${port}`;
      const found = groups.get(key);
      if (found !== undefined) groups.set(key, { ...found, count: found.count + 1 });
      else if (groups.size < MOST_LINES) {
        const line = {
          host,
          port,
          method,
          code: denial.code,
          count: 1,
          remedy: remedy(head, denial),
        };
        groups.set(key, line);
      }
    },
    counts: () => ({ calls, denials, bytes, firstCallMs }),
    lines: () => [...groups.values()],
  };
}
