// Builds a sandbox, starts a command in it when told to, and takes everything away at its end. The
// command cannot run before `open()`. Whatever ends first (the command, the bridge, the launcher by
// SIGKILL) ends the rest: the agent is dead before the bridge stops, and what was put into the
// workspace is removed last. Trusted: the caller, the kernel, and the host's bwrap, ip, nft,
// unshare, nsenter, setpriv and perl.

import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { asBelayError, BelayError, reasonOf } from '../core/errors.ts';
import type { Clock } from '../core/ids.ts';
import {
  agentEnvironment,
  bwrapArguments,
  etcFiles,
  FD,
  heldFolder,
  homeFile,
  putOver,
  shownFile,
} from './bwrap.ts';
import { killCgroups } from './cgroup.ts';
import { type Covered, cover, coveringsOf } from './cover.ts';
import { hostFailure } from './failures.ts';
import { findFile, type Inside, openInside } from './inside.ts';
import { janitor, livingOwners, reliedUpon } from './janitor.ts';
import { watchMasks } from './mask-watch.ts';
import { type MaskPlan, planMasks, removePlaceholders, writableBy } from './masks.ts';
import { FILES_FOLDER, removeRunFiles, writeOwner } from './owner.ts';
import { PLACE } from './perl.ts';
import { resolveWorkdir } from './places.ts';
import { probeText } from './probe.ts';
import { seccompBytes } from './seccomp.ts';
import type { Sandbox, SandboxEnd, SandboxSpec } from './spec.ts';
import { createStage } from './stage.ts';
import { type Agent, startAgent } from './start-agent.ts';
import { type Bridge, startBridge } from './start-bridge.ts';

export type { Sandbox, SandboxEnd, SandboxSpec } from './spec.ts';

const SETUP_FAILED = 69;
const SIGKILL_STATUS = 137;

/**
 * Resolves when the sandbox stands and its gate waits for `open()`. Throws ERR_USAGE for a workspace
 * that cannot be one, ERR_HOST when the host lacks something, ERR_SANDBOX otherwise; then nothing is
 * left behind.
 */
export async function startSandbox(spec: SandboxSpec, clock: Clock = Date.now): Promise<Sandbox> {
  checkSpec(spec);
  // What a dead run left in the workspace would be taken for the user's own.
  janitor(dirname(spec.runDir), clock);
  const workdir = resolveWorkdir(spec);
  const ignoreInterrupt = () => {};
  // The terminal sends it to the agent as well, for which it is meant.
  if (spec.tty) process.on('SIGINT', ignoreInterrupt);
  const terminal = spec.tty ? saveTerminal(spec) : undefined;
  let bridge: Bridge | undefined;
  let agent: Agent | undefined;
  let masks: MaskPlan | undefined;
  let inside: Inside | undefined;
  const cleanUp = async (): Promise<void> => {
    inside?.[Symbol.dispose]();
    await bridge?.stop();
    if (masks !== undefined) {
      const { runDir } = spec;
      const kept = reliedUpon(dirname(runDir), basename(runDir));
      removePlaceholders(workdir, masks.placeholders, kept);
    }
    removeRunFiles(spec.runDir);
    if (terminal !== undefined) restoreTerminal(spec, terminal);
    process.off('SIGINT', ignoreInterrupt);
  };
  try {
    // The bridge boots while the rest is prepared.
    const starting = startBridge(spec);
    starting.catch(() => {}); // it is awaited below; an error in between must not be unhandled
    try {
      masks = prepare(spec, workdir);
    } finally {
      bridge = await starting;
    }
    const { agentNetPid } = bridge;
    const plan = masks;
    let covered: readonly Covered[] = [];
    agent = await enter(spec, workdir, plan, agentNetPid, async (first) => {
      inside = openInside(first, agentNetPid);
      const put = putOver(plan, join(spec.runDir, FILES_FOLDER));
      covered = [
        ...put.map((over) => ({ ...over, id: idOf(over.source) })),
        ...(await cover(inside, coveringsOf(plan, put))),
      ];
      requireSame(inside, [...Object.entries(spec.judged ?? {}), ...covered.map(pathAndId)]);
    });
    if (inside === undefined) throw new BelayError('ERR_SANDBOX', 'the sandbox was not covered');
    return standing({ spec, bridge, agent, covered, inside, cleanUp });
  } catch (error) {
    agent?.slay();
    await agent?.exited;
    await cleanUp();
    throw asBelayError('ERR_SANDBOX', 'the sandbox could not be built', error);
  }
}

function checkSpec(spec: SandboxSpec): void {
  const root = process.getuid?.() === 0;
  // Uid 0 of the host never exists in a sandbox.
  if (root !== (spec.uid !== undefined) || spec.uid?.uid === 0 || spec.uid?.gid === 0) {
    throw new BelayError(
      'ERR_SANDBOX',
      'a sandbox that root starts needs another uid, and only that',
    );
  }
  const [program = ''] = spec.command;
  if (program === '' || program.startsWith('-')) {
    throw new BelayError('ERR_USAGE', `\`${program}\` is not a command`);
  }
  const texts = [...spec.command, ...Object.entries(spec.env).flat(), ...spec.readOnly];
  if (texts.some((text) => text.includes('\0'))) {
    throw new BelayError('ERR_USAGE', 'a NUL in the command, a variable or a path');
  }
}

/** Looks at the workspace and writes the run's files; the placeholders come later, as the agent. */
function prepare(spec: SandboxSpec, workdir: string): MaskPlan {
  const { runDir } = spec;
  const { uid, gid } = spec.idmap ? { uid: 0, gid: 0 } : (spec.uid ?? ownIds());
  const shared = livingOwners(dirname(runDir), basename(runDir))
    .filter((owner) => owner.workdir === workdir)
    .flatMap((owner) => owner.placeholders);
  const canWrite = writableBy(uid, gid);
  const { protect = [], hide = [], close = [], repositories = [] } = spec;
  const own = { protect, hide, close, repositories };
  const masks = planMasks({ workdir, callerHome: homedir(), canWrite, shared, ...own });
  const cgroups = spec.cgroups?.join ?? [];
  writeOwner(runDir, { workdir, placeholders: masks.placeholders, cgroups });
  // CRASH: from here on the janitor knows what to remove.
  const folder = join(runDir, FILES_FOLDER);
  const mode =
    spec.uid === undefined ? { folder: 0o700, file: 0o600 } : { folder: 0o755, file: 0o644 };
  const held = masks.placeholders.flatMap(({ holds = {} }, i) =>
    Object.entries(holds).map(([name, text]) => [`${heldFolder(i)}/${name}`, text] as const),
  );
  const folders = new Set(held.map(([path]) => join(folder, dirname(path))));
  for (const path of [folder, join(folder, 'etc'), ...folders]) {
    mkdirSync(path);
    chmodSync(path, mode.folder);
  }
  const ignored = masks.placeholders
    .filter(({ kind }) => kind === 'file')
    .map(({ path }) => relative(workdir, path));
  const files = Object.entries(etcFiles(ignored, spec.gitHosts ?? [])).map(
    ([name, text]) => [`etc/${name}`, text] as const,
  );
  const shown = masks.shown.map(({ content }, i) => [shownFile(i), content] as const);
  const home = (spec.homeFiles ?? []).map(({ content }, i) => [homeFile(i), content] as const);
  for (const [name, text] of [...files, ...shown, ...held, ...home]) {
    writeFileSync(join(folder, name), text);
    chmodSync(join(folder, name), mode.file);
  }
  return masks;
}

async function enter(
  spec: SandboxSpec,
  workdir: string,
  masks: MaskPlan,
  agentNetPid: number,
  onUp: (first: number) => Promise<void>,
): Promise<Agent> {
  const filesDir = join(spec.runDir, FILES_FOLDER);
  const lend = (path: string) => ({
    path,
    map: spec.uid !== undefined && statSync(path).uid === 0,
  });
  const { at, prefix } = createStage({
    sources: [
      { path: workdir, map: spec.idmap === true },
      { path: filesDir },
      { path: spec.trustDir },
      lend(spec.home),
      ...spec.readOnly.map((path) => ({ path })),
      ...(spec.writable ?? []).map(lend),
    ],
    uid: spec.uid,
    cgroups: spec.cgroups?.join ?? [],
  });
  const { placeholders } = masks;
  const place = placeholders.flatMap(({ kind, path, content }) => [
    kind,
    at(workdir, path),
    content,
  ]);
  const args = bwrapArguments({ spec, workdir, filesDir, masks, at });
  const filterFd = readable(join(filesDir, 'filter'), seccompBytes(arch()));
  const argsFd = readable(join(filesDir, 'args'), args.map((text) => `${text}\0`).join(''));
  try {
    return await startAgent({
      prefix: [
        ...prefix,
        ...[
          'perl',
          '-e',
          PLACE,
          '--',
          String(FD.stderr + 1),
          String(placeholders.length),
          ...place,
        ],
      ],
      runDir: spec.runDir,
      agentNetPid,
      command: spec.command,
      homeFiles: spec.homeFiles ?? [],
      onUp,
      probe: spec.probe && probeText(spec.probe, masks, Object.keys(agentEnvironment(spec))),
      resourceLimits: resourceLimits(spec),
      filterFd,
      argsFd,
      stdio: spec.stdio ?? [0, 1, 2],
    });
  } finally {
    closeSync(filterFd);
    closeSync(argsFd);
  }
}

/** No core of an agent is written anywhere; the rest stands in where no cgroup limits. */
function resourceLimits({ cgroups, limits }: SandboxSpec): readonly string[] {
  const weak = cgroups?.weak ?? (['processes', 'memoryBytes'] as const);
  if (limits === undefined) return ['--core=0:0'];
  const { processes, memoryBytes } = limits;
  return [
    '--core=0:0',
    ...(weak.includes('processes') ? [`--nproc=${processes}:${processes}`] : []),
    ...(weak.includes('memoryBytes') ? [`--data=${memoryBytes}:${memoryBytes}`] : []),
  ];
}

function readable(path: string, content: string | Uint8Array): number {
  writeFileSync(path, content, { mode: 0o600, flag: 'wx' });
  return openSync(path, 'r');
}

/** A name that someone else exchanged meanwhile would lead elsewhere, or be unprotected. */
function requireSame(inside: Inside, expected: readonly (readonly [string, string])[]): void {
  for (const [path, id] of expected) {
    const found = inside.at(path);
    if (found.kind === 'file' && found.id === id) continue;
    throw new BelayError('ERR_SANDBOX', `\`${path}\` was exchanged while the sandbox was built`, {
      hint: 'start the run again',
    });
  }
}

function pathAndId({ path, id }: Covered): readonly [string, string] {
  return [path, id];
}

/** Of what is ours, or the host's: it is there. */
function idOf(path: string): string {
  const found = findFile(path);
  if (found.kind === 'file') return found.id;
  throw new BelayError('ERR_SANDBOX', `\`${path}\` is missing`);
}

interface Standing {
  readonly spec: SandboxSpec;
  readonly bridge: Bridge;
  readonly agent: Agent;
  readonly covered: readonly Covered[];
  readonly inside: Inside;
  readonly cleanUp: () => Promise<void>;
}

function standing({ spec, bridge, agent, covered, inside, cleanUp }: Standing): Sandbox {
  let opened = false;
  let why: 'killed' | 'bridge' | 'mask' | undefined;
  const slay = (reason: 'killed' | 'bridge' | 'mask'): void => {
    why ??= reason;
    killCgroups(spec.cgroups?.join ?? []);
    agent.slay();
  };
  const watch = watchMasks({
    inside,
    masks: covered,
    onLost: (lost) => {
      spec.onLostMasks?.(lost);
      if (lost.some(({ restored }) => !restored)) slay('mask');
    },
  });
  const end = async (): Promise<SandboxEnd> => {
    const { status, reported, said } = await agent.exited;
    await watch[Symbol.asyncDispose]();
    // INVARIANT: I1: the agent is dead before its bridge stops.
    const reason = why;
    const left = await cleanUp().catch((error: unknown) => reasonOf(error));
    const also = typeof left === 'string' ? { message: `not all was removed: ${left}` } : {};
    if (reason === 'bridge') {
      return { status: SETUP_FAILED, ran: opened, reason, message: 'the bridge died' };
    }
    if (reason === 'mask') {
      const message = 'a protected name was taken away from outside';
      return { status: SETUP_FAILED, ran: opened, reason: 'killed', message };
    }
    if (reason === 'killed') return { status: SIGKILL_STATUS, ran: opened, reason, ...also };
    if (opened && reported) return { status, ran: true, reason: 'exited', ...also };
    // Nothing reported how the command ended: somebody else ended the sandbox.
    if (opened || status > 128) {
      const signalled = status > 128 ? status : SIGKILL_STATUS;
      return { status: signalled, ran: opened, reason: 'killed', ...also };
    }
    const { message } = hostFailure('the sandbox ended before its command', said);
    return { status: SETUP_FAILED, ran: false, reason: 'setup', message };
  };
  const ended = end();
  void bridge.gone.then(() => slay('bridge'));
  const kill = async (): Promise<void> => {
    slay('killed');
    await ended;
  };
  return {
    holderPid: bridge.pid,
    agentNetPid: bridge.agentNetPid,
    childPid: agent.childPid,
    cgroup: spec.cgroups?.control,
    probed: agent.probed,
    open() {
      if (opened || why !== undefined) return;
      opened = true;
      agent.open();
    },
    ended,
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

function ownIds(): { readonly uid: number; readonly gid: number } {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}

function arch(): 'x64' | 'arm64' {
  if (process.arch === 'x64' || process.arch === 'arm64') return process.arch;
  throw new BelayError('ERR_HOST', `no system call filter for \`${process.arch}\``);
}

/** An agent that is killed leaves a raw terminal behind. */
function saveTerminal(spec: SandboxSpec): string | undefined {
  const stdin = spec.stdio?.[0] ?? 0;
  const { status, stdout } = spawnSync('stty', ['-g'], { stdio: [stdin, 'pipe', 'ignore'] });
  return status === 0 ? stdout.toString('latin1').trim() : undefined;
}

function restoreTerminal(spec: SandboxSpec, saved: string): void {
  spawnSync('stty', [saved], { stdio: [spec.stdio?.[0] ?? 0, 'ignore', 'ignore'] });
}
