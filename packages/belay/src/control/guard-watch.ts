// Keeps the daemon and its guard together. While the guard is gone every call is denied (the global
// stop `guard`); a new guard is told every run again, and only when it has acknowledged all of them
// do calls pass.

import { BelayError, reasonOf } from '../core/errors.ts';
import type { Ledger } from '../ledger/ledger.ts';
import { connectGuardAsDaemon, type GuardLink } from '../sandbox/guard-client.ts';
import type { Stops } from '../stop/stops.ts';
import type { DaemonRun } from './daemon-run.ts';

export interface GuardWatchOptions {
  readonly socket: string;
  readonly stops: Stops;
  readonly ledger: Ledger;
  readonly runs: () => readonly DaemonRun[];
  readonly onLost: () => void;
}

export interface GuardWatch extends AsyncDisposable {
  state(): 'acknowledged' | 'lost';
  /** Resolves when the guard knows the run; throws ERR_GUARD otherwise. */
  acknowledge(run: DaemonRun): Promise<void>;
  kill(run: DaemonRun): Promise<void>;
}

const RETRY_MS = 50;
const FIRST_TIMEOUT_MS = 5000;

export async function watchGuard(options: GuardWatchOptions): Promise<GuardWatch> {
  const { socket, stops, ledger, runs, onLost } = options;
  let link: GuardLink | undefined;
  let ending = false;

  const note = (
    type: 'guard.acknowledged' | 'guard.lost' | 'guard.frozen' | 'guard.thawed',
    detail: Record<string, number>,
  ): void => {
    // A failed append closes the ledger, and every call after it is denied.
    ledger.append({ type, detail }).catch(() => {});
  };

  const connect = async (): Promise<void> => {
    const fresh = await connectGuardAsDaemon({
      socket,
      pid: process.pid,
      onFrozen: (frozen) => note(frozen ? 'guard.frozen' : 'guard.thawed', { runs: runs().length }),
      onLost: () => {
        if (ending || link !== fresh) return;
        link = undefined;
        stops.set({ kind: 'global' }, 'guard', 'quarantined', 'the guard is gone');
        note('guard.lost', { runs: runs().length });
        onLost();
        void reconnect();
      },
    });
    const known = runs().filter((run) => run.registration !== undefined);
    for (const run of known) {
      if (run.registration !== undefined)
        await fresh.register({ run: run.id, ...run.registration });
    }
    const ids = known.map(({ id }) => id);
    const acknowledged = await fresh.ack(ids);
    const missing = ids.filter(
      (id) => !acknowledged.includes(id) && runs().some((run) => run.id === id),
    );
    if (missing.length > 0) {
      await fresh[Symbol.asyncDispose]();
      throw new BelayError('ERR_GUARD', `the guard does not know ${missing.join(' ')}`);
    }
    link = fresh;
    note('guard.acknowledged', { runs: ids.length });
    stops.lift({ kind: 'global' }, 'guard');
  };

  const reconnect = async (): Promise<void> => {
    while (!ending && link === undefined) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      try {
        await connect();
      } catch {
        // Not there yet, or not ready: calls stay denied and the next turn tries again.
        onLost();
      }
    }
  };

  const deadline = performance.now() + FIRST_TIMEOUT_MS;
  for (;;) {
    try {
      await connect();
      break;
    } catch (error) {
      if (performance.now() > deadline) {
        throw new BelayError('ERR_GUARD', `no guard: ${reasonOf(error)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  const needLink = (): GuardLink => {
    if (link === undefined) throw new BelayError('ERR_GUARD', 'the guard is gone');
    return link;
  };
  return {
    state: () => (link === undefined ? 'lost' : 'acknowledged'),
    async acknowledge(run) {
      const known = await needLink().ack([run.id]);
      if (!known.includes(run.id)) {
        throw new BelayError('ERR_GUARD', `the guard does not know ${run.id}`);
      }
    },
    kill: (run) => needLink().kill(run.id),
    async [Symbol.asyncDispose]() {
      ending = true;
      await link?.[Symbol.asyncDispose]();
    },
  };
}
