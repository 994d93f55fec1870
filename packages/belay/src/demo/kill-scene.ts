// Types `belay kill RUN` while the agent is in the middle of its download, and watches from outside
// until the agent's process is gone and the far end has seen its connection close.

import { readdirSync, readFileSync } from 'node:fs';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { BelayError } from '../core/errors.ts';
import type { KillTiming } from './judge.ts';
import { ourProgram, type Program, start } from './programs.ts';
import type { World } from './world.ts';

const GONE_WITHIN_MS = 8000;
const LOOK_EVERY_MS = 2;

export interface KillParts {
  readonly env: Readonly<Record<string, string>>;
  /** The agent's program: how its process is recognised. */
  readonly agent: string;
  readonly run: Program;
  readonly world: World;
}

/** The one run that is open. */
export async function openRun(env: Readonly<Record<string, string>>): Promise<string> {
  const { runs } = await connectControl(findHome(env)).get<DaemonStatus>('/v1/status');
  const [run] = runs;
  if (run === undefined) throw new BelayError('ERR_DAEMON', 'the demo has no open run');
  return run.run;
}

export async function killInTheMiddle(parts: KillParts, run: string): Promise<KillTiming> {
  const pids = pidsOf(parts.agent);
  if (pids.length === 0) throw new BelayError('ERR_SANDBOX', 'the agent is nowhere to be seen');
  const typedAtMs = Date.now();
  const typed = performance.now();
  const command = [process.execPath, ourProgram('cli/main'), 'kill', run];
  await using kill = start([...command, '--reason', 'the demo'], {
    cwd: '/',
    env: parts.env,
    timeoutMs: GONE_WITHIN_MS,
  });
  const [processGoneMs, connectionCutMs] = await Promise.all([
    untilGone(pids, typed),
    within(parts.world.downloadClosed().then((at) => at - typed)),
    kill.ended,
  ]);
  const status = await parts.run.ended;
  return { typedAtMs, processGoneMs, connectionCutMs, status };
}

/** Processes of the agent as this side of the sandbox counts them: node with the agent's file. */
function pidsOf(agent: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => argumentsOf(pid)[1] === agent);
}

function argumentsOf(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return []; // it ended, or is another user's
  }
}

async function untilGone(pids: readonly number[], since: number): Promise<number | undefined> {
  while (performance.now() - since < GONE_WITHIN_MS) {
    if (!pids.some(isAlive)) return performance.now() - since;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  return undefined;
}

function isAlive(pid: number): boolean {
  try {
    // The state follows the name, which is in brackets and may hold anything. A zombie is gone.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.charAt(stat.lastIndexOf(')') + 2) !== 'Z';
  } catch {
    return false;
  }
}

async function within(wait: Promise<number>): Promise<number | undefined> {
  const timer = Promise.withResolvers<undefined>();
  const late = setTimeout(() => timer.resolve(undefined), GONE_WITHIN_MS);
  try {
    return await Promise.race([wait, timer.promise]);
  } finally {
    clearTimeout(late);
  }
}
