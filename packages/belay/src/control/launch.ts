// One run from the user's terminal: configuration read, secrets read once, daemon found or started,
// run registered, sandbox built, guard acknowledged, command released. The launcher holds no key of
// Belay's; when it dies, its sandbox dies with it. Ends with the command's own status.

import { homedir } from 'node:os';
import { loadBundle } from '../config/load.ts';
import { readSecrets } from '../config/secrets.ts';
import { BelayError, reasonOf, unreachable } from '../core/errors.ts';
import { EXIT } from '../core/exit.ts';
import { makeCgroup, removeCgroup } from '../sandbox/cgroup.ts';
import { commandBinds } from '../sandbox/command.ts';
import type { GuardNotice } from '../sandbox/guard-client.ts';
import { type Sandbox, type SandboxEnd, startSandbox } from '../sandbox/start.ts';
import { GuardSeat } from './guard-seat.ts';
import type { Home } from './home.ts';
import { type OpenedRun, PROTOCOL_VERSION, type RunNotice, type RunSummary } from './protocol.ts';
import { type CaughtSignals, catchSignals } from './signals.ts';
import { ensureDaemon } from './start-daemon.ts';
import { makeAgentHome, openWorkdir, passSocket } from './workdir.ts';

export interface LaunchOptions {
  readonly home: Home;
  readonly agent?: string;
  readonly environment?: string;
  readonly allow: readonly string[];
  readonly shadow: boolean;
  readonly caps: { readonly calls?: number; readonly bytes?: number };
  readonly workdir: string;
  readonly command: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly tty: boolean;
  /** Says something to the user, one line, on stderr. */
  readonly say: (line: string) => void;
}

export interface LaunchEnd {
  readonly status: number;
  readonly summary: RunSummary | undefined;
}

const LINGER_MS = 60_000;

export async function launch(options: LaunchOptions): Promise<LaunchEnd> {
  const { home, say } = options;
  const workdir = openWorkdir(options.workdir);
  const bundle = loadBundle(workdir.path);
  const asked = { agent: options.agent, environment: options.environment };
  const secrets = readSecrets(bundle, options.env, asked, workdir.path);
  const target = commandBinds(options.command, options.env.PATH ?? '', {
    cwd: process.cwd(),
    home: homedir(),
    workdir: workdir.path,
  });

  await using signals = catchSignals();
  const client = await ensureDaemon(home, LINGER_MS);
  await using stream = await client.lines<RunNotice>('POST', '/v1/runs', {
    v: PROTOCOL_VERSION,
    ...asked,
    allow: options.allow,
    shadow: options.shadow,
    caps: options.caps,
    command: options.command,
    workdir: workdir.path,
    uid: workdir.agent?.uid ?? process.getuid?.() ?? 0,
    pid: process.pid,
    bundle,
    secrets,
  });
  const lines = stream.lines[Symbol.asyncIterator]();
  const opened = await firstLine(lines);
  signals.throwIfCaught();

  let end: SandboxEnd | undefined;
  const cgroup = makeCgroup(opened.run);
  let closed: RunSummary | undefined;
  const close = async (status: number, reason: string): Promise<RunSummary | undefined> => {
    closed ??= await client
      .post<RunSummary>(`/v1/runs/${opened.run}/close`, { status, reason })
      .catch(() => undefined);
    return closed;
  };
  try {
    if (workdir.agent !== undefined) passSocket(opened.runDir, workdir.agent);
    const agentHome = makeAgentHome(home, opened.agent, workdir.agent);
    await using sandbox = await startSandbox({
      ...(cgroup === undefined ? {} : { cgroup }),
      run: opened.run,
      runDir: opened.runDir,
      trustDir: opened.trustDir,
      workdir: workdir.path,
      home: agentHome,
      command: target.command,
      env: { ...opened.variables, ...target.env, ...terminalVariables(options) },
      readOnly: target.readOnly,
      ...(workdir.agent === undefined ? {} : { uid: workdir.agent, idmap: workdir.idmap }),
      tty: options.tty,
    });
    signals.throwIfCaught();
    const registration = {
      holder: sandbox.holderPid,
      agentNet: sandbox.agentNetPid,
      child: sandbox.childPid,
      cgroup: sandbox.cgroup ?? null,
    };
    const guarded = {
      socket: home.guardSocket,
      registration: { run: opened.run, ...registration },
    };
    const guard = new GuardSeat(guarded, (notice) => {
      const line = guardLine(notice, opened.run);
      if (line !== undefined) say(line);
    });
    using _guard = guard;
    await guard.take();
    await client.post(`/v1/runs/${opened.run}/guarded`, registration);
    signals.throwIfCaught();
    sandbox.open();
    end = await watch(options, opened, sandbox, lines, signals);
  } catch (error) {
    const status = signals.status() ?? EXIT.unsuitable;
    await close(status, reasonOf(error));
    if (signals.status() !== undefined) return { status, summary: closed };
    throw error;
  } finally {
    removeCgroup(cgroup);
  }
  const summary = await close(end.status, end.message ?? end.reason);
  return { status: end.status, summary };
}

/** Waits for whatever ends the run first: the command, a stop, a signal, or the daemon's death. */
async function watch(
  options: LaunchOptions,
  opened: OpenedRun,
  sandbox: Sandbox,
  lines: AsyncIterator<RunNotice>,
  signals: CaughtSignals,
): Promise<SandboxEnd> {
  const ended = sandbox.ended.then((end) => ({ kind: 'ended', end }) as const);
  const caught = signals.next(options.tty).then((status) => ({ kind: 'signal', status }) as const);
  const notice = lines.next().then((line) => ({ kind: 'notice', line }) as const);
  const first = await Promise.race([ended, caught, notice]);
  switch (first.kind) {
    case 'ended': {
      const { end } = first;
      // The command's own end needs no words; the sandbox's does.
      if (end.reason === 'bridge' || end.reason === 'setup') {
        options.say(`belay: error: ${end.message ?? `the sandbox ended: ${end.reason}`}`);
      }
      return end;
    }
    case 'signal':
      await sandbox.kill();
      return { status: first.status, ran: true, reason: 'killed' };
    case 'notice': {
      if (!first.line.done && first.line.value.kind === 'stopped') {
        await sandbox.kill();
        const { state, reason } = first.line.value;
        return {
          status: EXIT.stopped,
          ran: true,
          reason: 'killed',
          message: `${state}: ${reason}`,
        };
      }
      // The stream ended while the run is open: the daemon is dead, and the guard cuts and freezes.
      options.say(`belay: error: the daemon died: ${opened.run} is cut off and frozen`);
      options.say(`belay: hint: Ctrl-C or \`belay kill ${opened.run}\` ends it`);
      await Promise.race([ended, signals.next(false)]);
      await sandbox.kill();
      return { status: EXIT.stopped, ran: true, reason: 'killed', message: 'the daemon died' };
    }
  }
}

async function firstLine(lines: AsyncIterator<RunNotice>): Promise<OpenedRun> {
  const first = await lines.next();
  if (!first.done && first.value.kind === 'opened') return first.value;
  throw new BelayError('ERR_DAEMON', 'the daemon ended before the run was open');
}

function terminalVariables({ env, tty }: LaunchOptions): Record<string, string> {
  return { TERM: tty ? (env.TERM ?? 'xterm-256color') : 'dumb', LANG: 'C.UTF-8' };
}

/** What the user hears of the guard; what has another voice already is left out. */
function guardLine(notice: GuardNotice, run: string): string | undefined {
  switch (notice.kind) {
    case 'frozen':
      return `belay: ${run} is frozen: the daemon does not answer`;
    case 'thawed':
      return `belay: ${run} goes on`;
    case 'killed':
      return `belay: ${run} was killed by the guard: ${notice.reason}`;
    case 'lost':
      return `belay: the guard is gone: calls of ${run} are denied until a new one has it`;
    case 'cut':
    case 'final':
    case 'ended':
      return undefined;
    default:
      return unreachable(notice);
  }
}
