// An agent outside any sandbox of Belay's, for hosts that refuse one: it is told of the explicit
// proxy and nothing makes it go there. What it is not given it may still take: whatever its uid can
// read, signal or reach. What goes through the proxy is governed like any other call.

import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { BelayError, reasonOf } from '../core/errors.ts';
import { trustVariables } from '../sandbox/bwrap.ts';
import type { SandboxEnd } from '../sandbox/start.ts';
import type { Contained } from './contained.ts';
import type { Owner } from './home.ts';
import type { OpenedRun } from './protocol.ts';

export interface ExternalRun {
  readonly opened: OpenedRun;
  readonly command: readonly string[];
  readonly workdir: string;
  readonly env: NodeJS.ProcessEnv;
  /** Variables of the caller that hold a credential's value. */
  readonly secretVariables: readonly string[];
  /** Whom the agent runs as; given exactly when the caller is root. */
  readonly as?: Owner & { readonly home: string };
  readonly tty: boolean;
}

const TERM_MS = 2_000;

export async function containExternally(asked: ExternalRun): Promise<Contained> {
  const { opened, command, as } = asked;
  const [program = '', ...args] = command;
  const gate = Promise.withResolvers<boolean>();
  let child: ChildProcess | undefined;
  let killed = false;

  const ended = (async (): Promise<SandboxEnd> => {
    if (!(await gate.promise)) return { status: 137, ran: false, reason: 'killed' };
    child = spawn(program, args, {
      cwd: asked.workdir,
      env: externalEnvironment(asked),
      stdio: 'inherit',
      // A group of its own can be ended as one; a terminal's foreground group is the terminal's.
      detached: !asked.tty,
      ...(as === undefined ? {} : { uid: as.uid, gid: as.gid }),
    });
    const { code, signal } = await exitOf(child, program);
    // What it left behind in its group ends with it.
    if (!asked.tty) send(child, 'SIGKILL', asked.tty);
    const status = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
    return { status, ran: true, reason: killed || signal !== null ? 'killed' : 'exited' };
  })();
  // A program that cannot be started is told by whoever waits for the end.
  ended.catch(() => {});

  const kill = async (): Promise<void> => {
    killed = true;
    gate.resolve(false);
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      send(child, 'SIGTERM', asked.tty);
      const late = setTimeout(() => child && send(child, 'SIGKILL', asked.tty), TERM_MS);
      await ended.catch(() => {});
      clearTimeout(late);
    }
    await ended.catch(() => {});
  };
  if (opened.proxy === undefined) throw new BelayError('ERR_DAEMON', 'the daemon named no proxy');
  return { open: () => gate.resolve(true), ended, kill, [Symbol.asyncDispose]: kill };
}

/** The caller's own variables, without what would lead past the proxy or hand out a real key. */
function externalEnvironment(asked: ExternalRun): NodeJS.ProcessEnv {
  const { opened, env, as } = asked;
  const { host = '', port = 0, token = '' } = opened.proxy ?? {};
  const proxy = `http://${opened.run}:${token}@${host}:${port}`;
  const hidden = new Set([...asked.secretVariables, 'NO_PROXY', 'ALL_PROXY', 'BELAY_HOME']);
  const kept = Object.entries(env).filter(([name]) => {
    return !hidden.has(name) && !hidden.has(name.toUpperCase());
  });
  return {
    ...Object.fromEntries(kept),
    ...(as === undefined ? {} : { HOME: as.home }),
    ...opened.variables,
    ...trustVariables(opened.trustDir),
    HTTP_PROXY: proxy,
    HTTPS_PROXY: proxy,
    http_proxy: proxy,
    https_proxy: proxy,
    // Node looks at the proxy variables only when asked to.
    NODE_USE_ENV_PROXY: '1',
  };
}

function exitOf(
  child: ChildProcess,
  program: string,
): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'ENOENT' ? 'it was not found' : reasonOf(error);
      reject(new BelayError('ERR_USAGE', `\`${program}\` cannot be started: ${reason}`));
    });
  });
}

function send(child: ChildProcess, signal: NodeJS.Signals, alone: boolean): void {
  if (child.pid === undefined) return;
  try {
    process.kill(alone ? child.pid : -child.pid, signal);
  } catch {
    // Gone already.
  }
}
