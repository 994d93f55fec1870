// Who is calling. A run's socket is its identity: a call that came through it belongs to that run,
// whatever it says about itself. A run acts under one grant, which names the agent, the environment
// and the mode, and which expires.

import type { Mode } from '../core/call.ts';
import type { Clock, RunId } from '../core/ids.ts';
import type { Denial } from '../core/verdict.ts';

export interface Grant {
  readonly agent: string;
  readonly environment: string;
  readonly mode: Mode;
  readonly state: 'active' | 'under review';
  /** Milliseconds since the epoch; absent: for the run only. */
  readonly expiresAt?: number;
}

/** What every run has; the caller hangs the rest of a run's matter on it. */
export interface RunIdentity {
  readonly id: RunId;
  readonly grant: Grant;
  /** False until the guard has acknowledged the run; calls are denied before. */
  readonly guarded: boolean;
  /** The run that this one is a part of. */
  readonly parent?: RunIdentity;
}

export interface Runs<Run extends RunIdentity> {
  add(run: Run): void;
  get(id: RunId): Run | undefined;
  remove(id: RunId): void;
  list(): readonly Run[];
  /** The run behind a call, or why it may not act at all. */
  identify(id: RunId): Run | Denial;
}

export function createRuns<Run extends RunIdentity>(clock: Clock): Runs<Run> {
  const runs = new Map<RunId, Run>();
  const deny = (code: Denial['code'], reason: string, message: string): Denial => ({
    kind: 'deny',
    step: 'identify',
    code,
    reason,
    told: { status: 403, message },
    policies: [],
  });
  return {
    add: (run) => void runs.set(run.id, run),
    get: (id) => runs.get(id),
    remove: (id) => void runs.delete(id),
    list: () => [...runs.values()],
    identify(id) {
      const run = runs.get(id);
      if (run === undefined) {
        return deny('run.unknown', `run \`${id}\` is not open`, 'this run has ended');
      }
      const { grant } = run;
      if (grant.expiresAt !== undefined && clock() >= grant.expiresAt) {
        const when = new Date(grant.expiresAt).toISOString();
        return deny(
          'grant.expired',
          `the grant expired at ${when}`,
          'the grant of this run expired',
        );
      }
      if (grant.state === 'under review' && grant.mode === 'live') {
        return deny(
          'grant.under-review',
          'a grant under review permits nothing live',
          'the grant of this run is under review',
        );
      }
      if (!run.guarded) {
        return deny(
          'guard.lost',
          'the guard has not acknowledged this run',
          'this run is not under guard',
        );
      }
      return run;
    },
  };
}
