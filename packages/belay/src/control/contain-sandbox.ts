// The agent in Belay's sandbox: built, registered with the guard, acknowledged, and not yet let go.

import { homedir } from 'node:os';
import type { NamedPaths } from '../config/paths.ts';
import { BelayError, unreachable } from '../core/errors.ts';
import { printable } from '../core/target.ts';
import { type Limits, makeCgroups, removeCgroupsSoon } from '../sandbox/cgroup.ts';
import type { CommandBinds } from '../sandbox/command.ts';
import type { GitHost } from '../sandbox/git-config.ts';
import type { GuardNotice } from '../sandbox/guard-client.ts';
import { leadingOut } from '../sandbox/listeners.ts';
import type { LostMask } from '../sandbox/mask-watch.ts';
import { placeholderFile } from '../sandbox/profiles/login-file.ts';
import type { HomeFile } from '../sandbox/profiles/profile.ts';
import { homeFiles, profileOf } from '../sandbox/profiles/profiles.ts';
import { startSandbox } from '../sandbox/start.ts';
import type { Survey } from '../sandbox/survey.ts';
import { listenAsBait } from './bait.ts';
import type { Client } from './client.ts';
import type { Contained } from './contained.ts';
import { GuardSeat } from './guard-seat.ts';
import { type Home, runFolder } from './home.ts';
import { hostFacts } from './host-facts.ts';
import type { OwnLogin } from './login.ts';
import type { OpenPaths } from './open-paths.ts';
import type { OpenedRun } from './protocol.ts';
import { type PublishedPort, publish } from './publish.ts';
import { holdRunFolder, makeAgentHome, type Workdir } from './workdir.ts';

export interface SandboxedRun {
  readonly home: Home;
  readonly client: Client;
  readonly opened: OpenedRun;
  readonly workdir: Workdir;
  readonly named: NamedPaths;
  readonly gitHosts: readonly GitHost[];
  readonly limits: Limits;
  readonly paths: OpenPaths;
  readonly ports: readonly PublishedPort[];
  readonly survey: Survey;
  readonly command: readonly string[];
  /** How its user is signed in. */
  readonly login: OwnLogin | undefined;
  readonly target: CommandBinds;
  readonly env: Readonly<Record<string, string>>;
  readonly tty: boolean;
  readonly say: (line: string) => void;
}

export async function containInSandbox(asked: SandboxedRun): Promise<Contained> {
  const { home, client, opened, workdir, target, say } = asked;
  const agentHome = makeAgentHome(home, opened, workdir);
  // By the name that the user gave: what it leads to may be called otherwise.
  const profile = profileOf(asked.command);
  if (profile?.says !== undefined) say(`belay: ${profile.says}`);
  const close = leadingOut(workdir.path, asked.survey);
  await using stack = new AsyncDisposableStack();
  const runDir = runFolder(home, opened.run);
  if (workdir.agent !== undefined) stack.use(holdRunFolder(runDir, workdir.agent));
  // Told before the run is closed.
  let told: Promise<void> = Promise.resolve();
  stack.defer(() => told);
  const cgroups = makeCgroups(opened.run, asked.limits);
  stack.defer(() => removeCgroupsSoon(cgroups.join));
  // A listener on the loopback of the host, which nobody inside may reach.
  await using bait = await listenAsBait();
  const sandbox = stack.use(
    await startSandbox({
      probe: { loopbackPort: bait.port, sockets: [home.controlSocket, home.guardSocket] },
      cgroups,
      limits: asked.limits,
      run: opened.run,
      runDir,
      trustDir: home.trust,
      workdir: workdir.path,
      ...asked.named,
      gitHosts: asked.gitHosts,
      repositories: asked.survey.repositories,
      close,
      home: agentHome,
      homeFiles: [
        ...(profile === undefined ? [] : homeFiles(profile, homedir())),
        ...loginFile(asked),
      ],
      command: target.command,
      env: { ...profile?.variables, ...opened.variables, ...target.env, ...asked.env },
      readOnly: [...target.readOnly, ...asked.paths.read],
      writable: asked.paths.write,
      judged: { [workdir.path]: workdir.id, ...asked.paths.ids },
      onLostMasks: (lost) => {
        for (const mask of lost) say(`belay: warning: ${maskLine(mask)}`);
        told = told
          .then(() => client.post(`/v1/runs/${opened.run}/masks`, { lost }))
          .then(
            () => {},
            () => {}, // a daemon that is gone is told of by other means
          );
      },
      ...(workdir.agent === undefined ? {} : { uid: workdir.agent, idmap: workdir.idmap }),
      tty: asked.tty,
    }),
  );
  if (close.length > 0) {
    const more = close.length === 1 ? '' : ` and ${close.length - 1} more`;
    const what = `${printable(close[0] ?? '')}${more}`;
    say(`belay: warning: closed to the agent, since it may lead to the host: ${what}`);
  }
  stack.use(
    await publish({
      ports: asked.ports,
      agentNetPid: sandbox.agentNetPid,
      as: workdir.agent,
    }),
  );
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
  const guard = stack.use(
    new GuardSeat(guarded, (notice) => {
      const line = guardLine(notice, opened.run);
      if (line !== undefined) say(line);
    }),
  );
  await guard.take();
  if (bait.reached()) {
    throw new BelayError(
      'ERR_SANDBOX',
      "the sandbox does not hold: the host's loopback was reached",
    );
  }
  await client.post(`/v1/runs/${opened.run}/guarded`, {
    ...registration,
    probe: { checks: sandbox.probed.map(({ id }) => id), host: hostFacts() },
  });
  const { ended } = sandbox;
  const held = stack.move();
  return {
    open: () => sandbox.open(),
    ended,
    kill: () => sandbox.kill(),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function loginFile({ login, opened }: SandboxedRun): readonly HomeFile[] {
  if (login === undefined || opened.login === undefined) return [];
  return [placeholderFile(login.login, login.read, opened.login, Date.now())];
}

function maskLine({ path, forMs, restored }: LostMask): string {
  const what = `\`${printable(path)}\` was replaced from outside`;
  if (!restored) return `${what} and cannot be protected any more: the run ends`;
  return `${what}: look at it, the agent could use it for up to ${forMs} ms`;
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
