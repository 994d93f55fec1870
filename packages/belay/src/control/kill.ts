// Ends runs: the daemon does it when one is alive, else the guard, which needs nobody.

import { BelayError } from '../core/errors.ts';
import { isRunId } from '../core/ids.ts';
import { operateGuard } from '../sandbox/guard-client.ts';
import { connectControl } from './client.ts';
import type { Home } from './home.ts';
import { alive } from './start-daemon.ts';

export interface Killed {
  readonly killed: readonly string[];
  readonly by: 'daemon' | 'guard';
}

/** `run` absent: every run. */
export async function killRun(
  home: Home,
  run: string | undefined,
  reason: string,
): Promise<Killed> {
  if (run !== undefined && !isRunId(run)) {
    throw new BelayError('ERR_NOT_FOUND', `no run \`${run}\``, {
      hint: '`belay ps` lists the runs',
    });
  }
  const client = connectControl(home);
  if (await alive(client)) {
    const body = run === undefined ? { all: true, reason } : { run, reason };
    const { killed } = await client.post<{ killed: readonly string[] }>('/v1/kill', body);
    return { killed, by: 'daemon' };
  }
  using guard = await operateGuard(home.guardSocket);
  const held = (await guard.list()).map((state) => state.run);
  if (run !== undefined && !held.includes(run)) {
    throw new BelayError('ERR_NOT_FOUND', `no run \`${run}\``);
  }
  const victims = run === undefined ? held : [run];
  for (const victim of victims) await guard.kill(victim);
  return { killed: victims, by: 'guard' };
}
