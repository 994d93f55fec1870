// Starts bubblewrap with the agent's gate inside, in the namespaces that the bridge holds. Resolves
// once the sandbox stands and the gate waits. bwrap's own words come through a pipe of their own, so
// that they are never mixed with the command's; whether the command ran is told by its status line.

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Duplex, Readable } from 'node:stream';
import { BelayError } from '../core/errors.ts';
import { FD, gated } from './bwrap.ts';
import { hostFailure, missingProgram } from './failures.ts';
import { type ProbeCheck, parseProbe } from './probe.ts';
import { processGone, processStart } from './process-start.ts';
import type { HomeFile } from './profiles/profile.ts';
import { TOOL_ENV } from './tools.ts';

const READY_MS = 10_000;
const GONE_MS = 5_000;
const MOST_SAID = 8192;

export interface AgentExit {
  /** The status of bwrap, or 128 + n. */
  readonly status: number;
  /** Whether the program inside ended by itself, as bwrap tells. */
  readonly reported: boolean;
  readonly said: string;
}

export interface Agent {
  readonly childPid: number;
  readonly probed: readonly ProbeCheck[];
  open(): void;
  /** Sends SIGKILL to bwrap and to the first process inside. */
  slay(): void;
  /** Resolves when nothing of the agent is left. */
  readonly exited: Promise<AgentExit>;
}

export interface AgentOptions {
  /** What comes before `nsenter`. */
  readonly prefix: readonly string[];
  readonly runDir: string;
  readonly agentNetPid: number;
  readonly command: readonly string[];
  readonly homeFiles: readonly HomeFile[];
  /** Called when the gate is up, with the first process inside, before anything is tried. */
  readonly onUp: (first: number) => Promise<void>;
  /** What the gate is to try, as lines; absent: nothing. */
  readonly probe: string | undefined;
  /** Options of prlimit. */
  readonly resourceLimits: readonly string[];
  readonly filterFd: number;
  readonly argsFd: number;
  readonly stdio: readonly [number, number, number];
}

/** Throws ERR_HOST or ERR_SANDBOX; then nothing of it is left. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const [stdin, stdout, stderr] = options.stdio;
  const [program = '', ...args] = [
    ...options.prefix,
    ...['nsenter', '-t', String(options.agentNetPid), '--user', '--net', '--preserve-credentials'],
    // A pid namespace around bwrap's own: the inner guard lives in it, where the agent cannot
    // see or signal it. Each link of this chain dies with the one before.
    ...['prlimit', ...options.resourceLimits, '--'],
    ...['setpriv', '--pdeathsig', 'KILL', '--'],
    ...['unshare', '--pid', '--fork', '--kill-child=KILL', '--'],
    ...['bwrap', '--args', String(FD.args), '--', ...gated(options.command, options.homeFiles)],
  ];
  const child = spawn(program, args, {
    cwd: options.runDir,
    env: TOOL_ENV,
    // In the order of FD (bwrap.ts).
    stdio: [stdin, stdout, 'pipe', options.filterFd, options.argsFd, 'pipe', 'pipe', stderr],
  });
  const pipes: readonly unknown[] = child.stdio;
  const gate = pipes[FD.gate] as Duplex;
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, MOST_SAID);
  });
  const status = followStatus(pipes[FD.status] as Readable, () => firstInside(child));
  gate.on('error', () => {}); // the gate is gone: the exit says so

  const slay = (): void => {
    child.kill('SIGKILL');
    const inside = status.child();
    if (inside === undefined || processStart(inside.pid) !== inside.start) return;
    try {
      process.kill(inside.pid, 'SIGKILL');
    } catch {
      // Gone in between, or another user's: bwrap's death signal reaches it.
    }
  };
  const exited = exitOf(child).then(async ({ code, signal }): Promise<AgentExit> => {
    // bwrap may end a moment before the namespace that it made; its first process dies last.
    const inside = status.child();
    if (inside !== undefined && !(await processGone(inside.pid, inside.start, GONE_MS))) slay();
    if (inside !== undefined) await processGone(inside.pid, inside.start, GONE_MS);
    const number = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
    return { status: number, reported: status.reported(), said };
  });

  const up = /^up$/m;
  const goOn = async (): Promise<void> => {
    // bwrap wrote it before it let its child run, but the two descriptors are read in any order.
    await Promise.race([status.named, exited]);
    await options.onUp(firstOf(status.child()));
    gate.write(options.probe === undefined ? '\n' : `${options.probe}\n\n`);
  };
  try {
    const told = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new BelayError('ERR_SANDBOX', `the sandbox was not ready in ${READY_MS} ms`)),
        READY_MS,
      );
      const settle = (end: () => void) => () => {
        clearTimeout(timer);
        end();
      };
      child.on('error', (error) => settle(() => reject(missingProgram(program, error)))());
      let heard = '';
      gate.setEncoding('utf8').on('data', (text: string) => {
        const wasUp = up.test(heard);
        heard = (heard + text).slice(0, MOST_SAID);
        if (!wasUp && up.test(heard)) goOn().catch((error) => settle(() => reject(error))());
        if (/^ready$/m.test(heard)) settle(() => resolve(heard))();
      });
      // Ended, or broken off while the list was written to it.
      gate.once('close', () => {
        exited.then(settle(() => reject(hostFailure('the sandbox could not be built', said))));
      });
    });
    const probed = options.probe === undefined ? [] : parseProbe(told, options.probe);
    return {
      childPid: firstOf(status.child()),
      probed,
      slay,
      exited,
      open: () => {
        gate.end('go\n');
      },
    };
  } catch (error) {
    slay();
    if (child.pid !== undefined) await exited;
    throw error;
  }
}

function firstOf(inside: FirstInside | undefined): number {
  if (inside !== undefined) return inside.pid;
  throw new BelayError('ERR_SANDBOX', 'the sandbox has no first process');
}

interface FirstInside {
  readonly pid: number;
  readonly start: string | undefined;
}

/** The first process of the outer pid namespace, as the host counts: the one child of `unshare`. */
function firstInside({ pid }: ChildProcess): FirstInside | undefined {
  if (pid === undefined) return undefined;
  let children: string;
  try {
    children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1');
  } catch {
    return undefined; // it ended
  }
  const [first] = children.trim().split(' ');
  return first ? { pid: Number(first), start: processStart(Number(first)) } : undefined;
}

/** bwrap's status lines: `{"child-pid": N, ...}`, which counts from inside the outer namespace, and,
 * if the program ended, `{"exit-code": N}`. */
function followStatus(stream: Readable, find: () => FirstInside | undefined) {
  let text = '';
  let inside: FirstInside | undefined;
  const named = Promise.withResolvers<void>();
  stream.on('error', () => {}); // it ends with bwrap
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    text = (text + chunk).slice(0, MOST_SAID);
    if (inside !== undefined || !/"child-pid"/.test(text)) return;
    inside = find();
    named.resolve();
  });
  return {
    named: named.promise,
    child: (): FirstInside | undefined => inside,
    reported: (): boolean => /"exit-code"/.test(text),
  };
}

function exitOf(
  child: ChildProcess,
): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }> {
  return new Promise((resolve) => {
    let exit: { code: number | null; signal: NodeJS.Signals | null } = { code: 1, signal: null };
    child.on('exit', (code, signal) => {
      exit = { code, signal };
    });
    child.on('error', () => resolve(exit));
    child.on('close', () => resolve(exit));
  });
}
