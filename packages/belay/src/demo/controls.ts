// The controls: the same agent program, as the same user, without Belay. What the sandbox stopped
// must work here, or stopping it shows nothing. Local acts run as they are; acts on the network run
// in a namespace where every destination says yes (open-world.ts).

import { dirname } from 'node:path';
import type { Owner } from '../control/home.ts';
import { BelayError } from '../core/errors.ts';
import type { ActLine } from './inside/report-line.ts';
import { ourProgram, type Program, start } from './programs.ts';
import { actsOf } from './scenes.ts';
import type { Stage } from './stage.ts';
import type { Victims } from './victims.ts';
import type { World } from './world.ts';

const CONTROL_TIMEOUT_MS = 30_000;
// `ip` and `mount` are in sbin on some systems.
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface ControlParts {
  readonly stage: Stage;
  readonly world: World;
  readonly victims: Victims;
  readonly owner: Owner | undefined;
  readonly githubKey: string;
  readonly signal: AbortSignal;
}

/** Files the issue that the honest work is about, as the project's maintainer. */
export async function fileIssue(parts: ControlParts): Promise<void> {
  const lines = await reportOf(outside(parts, ['file-issue']), 'the GitHub twin');
  const issue = lines.get('file-issue');
  if (issue?.result === 'done') return;
  throw new BelayError(
    'ERR_HOST',
    `the GitHub twin takes no issue: ${issue?.detail ?? 'no answer'}`,
  );
}

/** What the agent got without Belay, by act. */
export async function runControls(parts: ControlParts): Promise<ReadonlyMap<string, ActLine>> {
  const local = await reportOf(outside(parts, actsOf('outside')), 'the control');
  const open = await reportOf(openWorld(parts), 'the open world');
  return new Map([...local, ...open]);
}

function outside(
  { stage, world, victims, owner, githubKey, signal }: ControlParts,
  acts: readonly string[],
) {
  const { github, slack } = world.ports;
  const command = [
    ...[process.execPath, stage.agent, '--acts', acts.join(',')],
    // It reads nobody else's processes.
    ...['--pids', victims.pids.join(','), '--spare', 'spare-control'],
  ];
  return start(command, {
    cwd: stage.copy,
    env: {
      PATH: SYSTEM_PATH,
      GITHUB_API_URL: `http://127.0.0.1:${github}`,
      SLACK_API_URL: `http://127.0.0.1:${slack}/api`,
      GITHUB_TOKEN: githubKey,
    },
    owner,
    signal,
    timeoutMs: CONTROL_TIMEOUT_MS,
  });
}

function openWorld({ stage, owner, signal }: ControlParts): Program {
  const namespaces = ['--user', '--map-root-user', '--net', '--mount'];
  const program = [process.execPath, ourProgram('demo/open-world')];
  const acts = actsOf('open world').join(',');
  return start(['unshare', ...namespaces, ...program, stage.copy, stage.agent, acts], {
    cwd: dirname(stage.agent),
    env: { PATH: SYSTEM_PATH },
    owner,
    signal,
    timeoutMs: CONTROL_TIMEOUT_MS,
  });
}

async function reportOf(program: Program, what: string): Promise<ReadonlyMap<string, ActLine>> {
  await using running = program;
  const status = await running.ended;
  if (status !== 0) {
    const why = running.stderr().trim().split('\n').slice(-3).join('; ');
    throw new BelayError('ERR_HOST', `${what} ended with ${status}: ${why}`);
  }
  return actLines(running);
}

export function actLines({ lines }: Program): ReadonlyMap<string, ActLine> {
  return new Map(lines.flatMap((line) => (line.kind === 'act' ? [[line.act, line] as const] : [])));
}
