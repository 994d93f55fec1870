// Processes that burn every CPU while agents call through the daemon: the guard must freeze none of
// them for as long as asked, and must still freeze in time when the daemon is stopped at the end. As
// the present user, and for root as an ordinary uid beside it.
//
//   node guard-hogs.ts [MINUTES]

import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { ORDINARY_UID, otherUidProblem } from '../installed.ts';
import { startBeating } from '../system/beats.ts';
import { entriesOnDisk } from '../system/ledger-files.ts';
import { eventually, openPlace } from '../system/place.ts';
import { startUpstream, type Upstream } from '../system/upstreams.ts';

export const covers = ['packages/belay/src'];
const FULL_MINUTES = 10;
const FROZEN_WITHIN_MS = 700;

export interface HogsFigures {
  readonly minutes: number;
  readonly hogs: number;
  readonly runs: readonly {
    readonly uid: number;
    readonly beats: number;
    readonly calls: number;
    readonly falseFreezes: number;
    /** From the daemon's SIGSTOP to the agent's last beat, hogs running. */
    readonly frozenAfterMs: number;
  }[];
}

/** Throws when a promise does not hold. */
export async function prove({ scale }: { readonly scale: number }): Promise<HogsFigures> {
  return await hogs(FULL_MINUTES * scale);
}

export async function hogs(minutes: number): Promise<HogsFigures> {
  await using upstream = await startUpstream(['api.example']);
  const count = Math.max(2, availableParallelism());
  const burning = Array.from({ length: count }, () =>
    spawn('perl', ['-e', 'while (1) {}'], { stdio: 'ignore' }),
  );
  try {
    const uids = otherUidProblem() === undefined ? [undefined, ORDINARY_UID] : [undefined];
    const runs = await Promise.all(uids.map((uid) => besideHogs(minutes, upstream, uid)));
    const figures = { minutes, hogs: count, runs };
    for (const { falseFreezes, frozenAfterMs, calls } of runs) {
      if (falseFreezes > 0 || frozenAfterMs > FROZEN_WITHIN_MS || calls === 0) {
        throw new Error(JSON.stringify(figures));
      }
    }
    return figures;
  } finally {
    for (const hog of burning) hog.kill('SIGKILL');
  }
}

async function besideHogs(
  minutes: number,
  upstream: Upstream,
  uid: number | undefined,
): Promise<HogsFigures['runs'][number]> {
  await using place = await openPlace(
    { upstreams: { 'api.example': upstream } },
    uid === undefined ? {} : { uid },
  );
  const agent = await startBeating(place, ['--allow', 'api.example'], 'https://api.example/');
  await sleep(minutes * 60_000);
  // Of ten minutes, too many for a program's output.
  const frozen = entriesOnDisk(place.session.home).filter(({ type }) => type === 'guard.frozen');
  const { pid } = await place.status();
  process.kill(pid, 'SIGSTOP');
  const stoppedMs = Date.now();
  let frozenAfterMs: number;
  try {
    await eventually('word of the freeze', () => {
      return agent.stderr().includes('is frozen') || undefined;
    });
    await sleep(500);
    frozenAfterMs = Math.max(0, (agent.beats().at(-1) ?? 0) - stoppedMs);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  const figures = {
    uid: uid ?? process.getuid?.() ?? 0,
    beats: agent.beats().length,
    calls: agent.calls().filter(({ what }) => what === '200').length,
    falseFreezes: frozen.length,
    frozenAfterMs,
  };
  await place.session.belay(['kill', agent.run]);
  await agent.ended;
  return figures;
}

if (import.meta.main) {
  const [minutes = String(FULL_MINUTES)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await hogs(Number(minutes)))}\n`);
}
