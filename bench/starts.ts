// How long `belay run -- true` takes, with a daemon to start (cold) and with one that is there
// (warm), and how much memory the daemon holds when nothing happens. On all cores, as in life.

import { chmodSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSession } from '../packages/belay/test/installed.ts';
import { median } from './figures.ts';
import { familyOf, parentOf, rssBytes } from './processes.ts';

export interface StartFigures {
  readonly coldMs: number;
  readonly warmMs: number;
  readonly warmMostMs: number;
  readonly idleDaemonRssBytes: number;
  /** With guard and spawner. */
  readonly idleAllRssBytes: number;
}

const SETTLE_MS = 3_000;

export async function measureStarts(coldRuns: number, warmRuns: number): Promise<StartFigures> {
  await using session = await openSession();
  if (process.getuid?.() === 0) chmodSync(dirname(session.workdir), 0o755);
  const start = async (): Promise<number> => {
    const { status, stderr, durationMs } = await session.belay(['run', '--', 'true']);
    if (status !== 0) throw new Error(`belay run -- true ended with ${status}: ${stderr}`);
    return durationMs;
  };
  const cold: number[] = [];
  for (let i = 0; i < coldRuns; i++) {
    if (i > 0) {
      const down = await session.belay(['down']);
      if (down.status !== 0) throw new Error(`belay down: ${down.stderr}`);
    }
    cold.push(await start());
  }
  const warm: number[] = [];
  for (let i = 0; i < warmRuns; i++) warm.push(await start());
  await sleep(SETTLE_MS);
  const { stdout } = await session.belay(['status', '--json']);
  const { pid } = JSON.parse(stdout) as { readonly pid: number };
  const spawner = parentOf(pid);
  return {
    coldMs: median(cold),
    warmMs: median(warm),
    warmMostMs: Math.max(...warm),
    idleDaemonRssBytes: rssBytes([pid]),
    idleAllRssBytes: rssBytes(familyOf(spawner)),
  };
}
