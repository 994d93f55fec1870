// One run from the user's terminal: configuration read, secrets read once, daemon found or started,
// run registered, sandbox built, guard acknowledged, command released. The launcher holds no key of
// Belay's; when it dies, its sandbox dies with it. Ends with the command's own status.

import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { type ConfigBundle, parseBundle } from '../config/bundle.ts';
import { namedPaths } from '../config/paths.ts';
import { readSecrets } from '../config/secrets.ts';
import type { Asked } from '../config/select.ts';
import { BelayError, reasonOf } from '../core/errors.ts';
import { excerpt } from '../core/excerpt.ts';
import { EXIT } from '../core/exit.ts';
import type { RunId } from '../core/ids.ts';
import { printable } from '../core/target.ts';
import { DEFAULT_LIMITS, type Limits } from '../sandbox/cgroup.ts';
import { type CommandBinds, commandBinds } from '../sandbox/command.ts';
import { reliedUpon } from '../sandbox/janitor.ts';
import type { SandboxEnd } from '../sandbox/start.ts';
import { type Survey, surveyWorkspace } from '../sandbox/survey.ts';
import { bundleOf } from './bundle.ts';
import { connectControl } from './client.ts';
import { containExternally } from './contain-external.ts';
import { containInSandbox } from './contain-sandbox.ts';
import type { Contained } from './contained.ts';
import { gitHosts } from './git-hosts.ts';
import type { Home } from './home.ts';
import { listChanges } from './list-changes.ts';
import { findLogin, type OwnLogin } from './login.ts';
import { type OpenPaths, openPaths, stateOf } from './open-paths.ts';
import {
  type Containment,
  type DaemonStatus,
  type LoginNotice,
  MOST_REASON,
  type OpenedRun,
  type OpenRun,
  PROTOCOL_VERSION,
  type RunNotice,
  type RunSummary,
} from './protocol.ts';
import type { PublishedPort } from './publish.ts';
import { type CaughtSignals, catchSignals } from './signals.ts';
import { alive, ensureDaemon } from './start-daemon.ts';
import { makeAgentHome, openWorkdir, type Workdir } from './workdir.ts';

export interface LaunchOptions {
  readonly home: Home;
  /** The run that this one is to be a part of; it is for the same agent unless told otherwise. */
  readonly parent?: RunId;
  readonly forMs?: number;
  readonly agent?: string;
  readonly environment?: string;
  readonly allow: readonly string[];
  /** Of the host, opened to the agent. */
  readonly paths: { readonly read: readonly string[]; readonly write: readonly string[] };
  /** Of the agent's own servers. */
  readonly ports: readonly PublishedPort[];
  readonly shadow: boolean;
  readonly containment: Containment;
  readonly caps: OpenRun['caps'];
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

export async function launch(options: LaunchOptions): Promise<LaunchEnd> {
  const { home, say } = options;
  requireLinux(options.containment);
  const workdir = openWorkdir(options.workdir, home);
  // Whoever put a link there chose what the agent may write.
  if (workdir.path !== resolve(options.workdir)) {
    say(`belay: the workspace is \`${printable(workdir.path)}\``);
  }
  const bundle = bundleOf(workdir.path, home);
  const asked = await whoIsAsked(options);
  const paths = openPaths(options.paths, home);
  const writable = [...paths.write, stateOf(home)];
  const secrets = readSecrets(bundle, options.env, asked, workdir.path, writable);
  const external = options.containment === 'external';
  if (external) warnOutside(options, workdir);
  const target = external
    ? undefined
    : commandBinds(options.command, options.env.PATH ?? '', {
        cwd: process.cwd(),
        home: homedir(),
        workdir: workdir.path,
      });

  const before = surveyWorkspace(workdir.path, reliedUpon(home.run));
  if (before.unwalked > 0 && !external) {
    const what = before.unwalked === 1 ? 'folder was' : 'folders were';
    say(`belay: warning: ${before.unwalked} ${what} not searched for what to protect`);
  }

  const login = external
    ? undefined
    : findLogin({
        ...{ config: parseBundle(bundle), asked, allow: options.allow },
        ...{ command: options.command, userHome: homedir() },
        open: [workdir.path, ...paths.read, ...paths.write],
      });
  if (login !== undefined) {
    say(`belay: signed in with \`${printable(login.read.path)}\`: the agent holds placeholders`);
  }

  await using signals = catchSignals();
  const prepared = { options, asked, workdir, bundle, secrets, login, target, paths, before };
  try {
    return await carryOut(prepared, signals);
  } catch (error) {
    const status = signals.status();
    if (status !== undefined) return { status, summary: undefined };
    throw error;
  }
}

/** What was read and checked before anything is started. */
interface Prepared {
  readonly options: LaunchOptions;
  readonly asked: Asked;
  readonly workdir: Workdir;
  readonly bundle: ConfigBundle;
  readonly secrets: Readonly<Record<string, string>>;
  readonly login: OwnLogin | undefined;
  /** Absent: the command runs outside a sandbox. */
  readonly target: CommandBinds | undefined;
  readonly paths: OpenPaths;
  readonly before: Survey;
}

/** From the registration of the run to its closing entry. */
async function carryOut(prepared: Prepared, signals: CaughtSignals): Promise<LaunchEnd> {
  const { options, asked, workdir, bundle, secrets, login, target, paths, before } = prepared;
  const { home, say } = options;
  const client = await ensureDaemon(home);
  await using stream = await client.lines<RunNotice>('POST', '/v1/runs', {
    v: PROTOCOL_VERSION,
    parent: options.parent,
    forMs: options.forMs,
    ...asked,
    allow: options.allow,
    shadow: options.shadow,
    containment: options.containment,
    paths: { read: paths.read, write: paths.write },
    ports: options.ports,
    caps: options.caps,
    command: options.command,
    workdir: workdir.path,
    uid: workdir.agent?.uid ?? process.getuid?.() ?? 0,
    pid: process.pid,
    bundle,
    secrets,
    ...(login === undefined
      ? {}
      : {
          login: {
            ...{ agent: login.login.name, file: login.read.path },
            ...{ tokens: login.read.tokens, scopes: login.read.scopes },
          },
        }),
  });
  const lines = stream.lines[Symbol.asyncIterator]();
  const opened = await firstLine(lines);

  const troubles = new Set<string>();
  let end: SandboxEnd | undefined;
  let closed: RunSummary | undefined;
  const close = async (status: number, reason: string): Promise<RunSummary | undefined> => {
    closed ??= await client
      .post<RunSummary>(`/v1/runs/${opened.run}/close`, {
        status,
        reason: excerpt(reason, MOST_REASON),
        changes: listChanges(before, surveyWorkspace(workdir.path, reliedUpon(home.run))),
      })
      .catch((error: unknown) => {
        // A daemon that died has been told of already; a ledger that failed has not.
        if (error instanceof BelayError && error.code === 'ERR_LEDGER') {
          say(`belay: error: ${error.message}`);
        }
        return undefined;
      });
    return closed;
  };
  try {
    signals.throwIfCaught();
    await using contained =
      target === undefined
        ? await containExternally({
            opened,
            command: options.command,
            workdir: workdir.path,
            env: options.env,
            secretVariables: secretVariables(bundle),
            ...(workdir.agent === undefined
              ? {}
              : {
                  as: { ...workdir.agent, home: makeAgentHome(home, opened, workdir) },
                }),
            tty: options.tty,
          })
        : await containInSandbox({
            home,
            client,
            opened,
            workdir,
            command: options.command,
            login,
            paths,
            ports: options.ports,
            survey: before,
            limits: limitsOf(bundle, opened.agent),
            gitHosts: gitHosts(parseBundle(bundle), opened, options.allow),
            named: namedPaths(bundle, workdir.path, options.env),
            target,
            env: terminalVariables(options),
            tty: options.tty,
            say,
          });
    signals.throwIfCaught();
    contained.open();
    const onLogin = (notice: LoginNotice): void => {
      const answer = login?.answer(notice);
      if (answer?.failed !== undefined) {
        const kept = notice.ask === 'write' ? '; the daemon holds it until a run can write it' : '';
        troubles.add(`the login was not ${DONE[notice.ask]}: ${answer.failed}${kept}`);
      }
      // A daemon that is gone asks nothing any more.
      void client.post(`/v1/runs/${opened.run}/login`, answer).catch(() => {});
    };
    end = await watch(options, opened, contained, notices(lines, onLogin), signals);
  } catch (error) {
    const status = signals.status() ?? EXIT.unsuitable;
    await close(status, reasonOf(error));
    if (signals.status() !== undefined) return { status, summary: closed };
    throw error;
  }
  const summary = await close(end.status, end.message ?? end.reason);
  // Not before: an agent may have had the screen.
  for (const trouble of troubles) say(`belay: warning: ${trouble}`);
  return { status: end.status, summary };
}

/** Waits for whatever ends the run first: the command, a stop, a signal, or the daemon's death. */
async function watch(
  options: LaunchOptions,
  opened: OpenedRun,
  contained: Contained,
  lines: AsyncIterator<RunNotice>,
  signals: CaughtSignals,
): Promise<SandboxEnd> {
  const ended = contained.ended.then((end) => ({ kind: 'ended', end }) as const);
  const caught = signals.next(options.tty).then((status) => ({ kind: 'signal', status }) as const);
  const notice = nextEnding(lines, options).then((line) => ({ kind: 'notice', line }) as const);
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
      await contained.kill();
      return { status: first.status, ran: true, reason: 'killed' };
    case 'notice': {
      if (!first.line.done && first.line.value.kind === 'stopped') {
        // Until the daemon has closed it, it may ask for the login to be written.
        void drain(lines);
        await contained.kill();
        const { state, reason } = first.line.value;
        options.say(`belay: error: ${opened.run} was ${state}: ${reason}`);
        return {
          status: EXIT.stopped,
          ran: true,
          reason: 'killed',
          message: `${state}: ${reason}`,
        };
      }
      // The stream ended while the run is open: the daemon is dead, and the guard cuts and freezes.
      if (options.containment === 'external') {
        options.say(`belay: error: the daemon died: ${opened.run} is cut off and ended`);
        await contained.kill();
        return { status: EXIT.stopped, ran: true, reason: 'killed', message: 'the daemon died' };
      }
      options.say(`belay: error: the daemon died: ${opened.run} is cut off and frozen`);
      options.say(`belay: hint: Ctrl-C or \`belay kill ${opened.run}\` ends it`);
      await Promise.race([ended, signals.next(false)]);
      await contained.kill();
      return { status: EXIT.stopped, ran: true, reason: 'killed', message: 'the daemon died' };
    }
  }
}

async function drain(lines: AsyncIterator<RunNotice>): Promise<void> {
  try {
    while (!(await lines.next()).done);
  } catch {
    // It broke off, which ends it as well.
  }
}

const DONE = { read: 'read', write: 'written' } as const;

/** What the daemon asks about the login is answered on the way. */
async function* notices(
  lines: AsyncIterator<RunNotice>,
  onLogin: (notice: LoginNotice) => void,
): AsyncGenerator<RunNotice> {
  for (;;) {
    const line = await lines.next();
    if (line.done) return;
    if (line.value.kind === 'login') onLogin(line.value);
    else yield line.value;
  }
}

/** The first notice that ends a run; others are only told, and not into the screen of an agent. */
async function nextEnding(
  lines: AsyncIterator<RunNotice>,
  { say, tty }: LaunchOptions,
): Promise<IteratorResult<RunNotice>> {
  for (;;) {
    const line = await lines.next();
    if (line.done) return line;
    const { value } = line;
    if (value.kind !== 'paused' && value.kind !== 'expired') return line;
    const what =
      value.kind === 'paused' ? `paused for ${value.forMs / 1000} s` : 'denied from here on';
    if (!tty) say(`belay: ${what}: ${value.reason}`);
  }
}

/** A sub-run is for its parent's agent unless told otherwise. Throws ERR_NOT_FOUND. */
async function whoIsAsked({ home, parent, agent, environment }: LaunchOptions): Promise<Asked> {
  if (parent === undefined) return { agent, environment };
  const client = connectControl(home);
  const runs = (await alive(client)) ? (await client.get<DaemonStatus>('/v1/status')).runs : [];
  const above = runs.find(({ run }) => run === parent);
  if (above === undefined) throw new BelayError('ERR_NOT_FOUND', `no run \`${parent}\` is open`);
  return { agent: agent ?? above.agent, environment: environment ?? above.environment };
}

async function firstLine(lines: AsyncIterator<RunNotice>): Promise<OpenedRun> {
  const first = await lines.next();
  if (!first.done && first.value.kind === 'opened') return first.value;
  throw new BelayError('ERR_DAEMON', 'the daemon ended before the run was open');
}

function terminalVariables({ env, tty }: LaunchOptions): Record<string, string> {
  return { TERM: tty ? (env.TERM ?? 'xterm-256color') : 'dumb', LANG: 'C.UTF-8' };
}

/** The sandbox is made of Linux namespaces. */
function requireLinux(containment: Containment): void {
  if (process.platform === 'linux' || containment === 'external') return;
  throw new BelayError('ERR_HOST', `there is no sandbox on ${process.platform}`, {
    hint:
      'run it in a Linux machine (Lima, WSL2), in a dev container, ' +
      'or without a sandbox: --containment external',
  });
}

/** Outside a sandbox root has no agent to become where the workspace is its own. */
function warnOutside({ paths, ports, say }: LaunchOptions, { path, idmap }: Workdir): void {
  if (paths.read.length + paths.write.length + ports.length > 0) {
    throw new BelayError('ERR_USAGE', 'outside a sandbox no path is closed and no port hidden', {
      hint: 'leave --allow-read, --allow-write and --publish away',
    });
  }
  if (idmap) {
    throw new BelayError('ERR_HOST', `\`${path}\` belongs to root, and no agent runs as root`, {
      hint: `give it to the user who works there: chown -R USER ${path}`,
    });
  }
  say('belay: warning: no sandbox: the agent can read and reach whatever its user can');
  say('belay: warning: only what it sends through the proxy is governed and recorded');
}

function limitsOf(bundle: ConfigBundle, agent: string): Limits {
  return { ...DEFAULT_LIMITS, ...parseBundle(bundle).agents.get(agent)?.limits };
}

function secretVariables(bundle: ConfigBundle): readonly string[] {
  return parseBundle(bundle).credentials.flatMap(({ from }) =>
    from.kind === 'env' ? [from.name] : [],
  );
}
