// A sandbox as the guard sees one: a user and network namespace for the bridge, an agent's network
// namespace joined to it by the veth v0/v1, and bubblewrap in a pid namespace of its own around the
// agent, with one more pid namespace outside it. Real namespaces, no bridge and no policy.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunId } from '../../../src/core/ids.ts';
import type { RunRegistration } from '../../../src/sandbox/guard-protocol.ts';

export const AGENT_UID = 12345;
const ROOT = process.getuid?.() === 0;
const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

/** The words that make a command run as the ordinary user, also when the tests run as root. */
export function asOrdinaryUser(): readonly string[] {
  const id = String(AGENT_UID);
  return ROOT ? ['setpriv', '--reuid', id, '--regid', id, '--clear-groups'] : ['env'];
}

export function ordinaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'belay-guard-'));
  if (ROOT) chownSync(dir, AGENT_UID, AGENT_UID);
  return dir;
}

export async function until(what: string, holds: () => boolean, boundMs = 5_000): Promise<void> {
  for (const end = performance.now() + boundMs; !holds(); await sleep(5)) {
    if (performance.now() > end) throw new Error(`not within ${boundMs} ms: ${what}`);
  }
}

export interface SandboxStandIn extends AsyncDisposable {
  readonly registration: RunRegistration;
  /** The process that the launcher started. */
  readonly launched: ChildProcess;
  /** Bytes that the agent has written. */
  written(): number;
  /** When it wrote last, in milliseconds since the epoch: tells how long the agent ran, however late
   * the test itself was scheduled. */
  lastWriteMs(): number;
  linkExists(): boolean;
  alive(): boolean;
  /** The agent's processes, as the host counts. */
  processes(): readonly number[];
  /** Makes an empty file that the agent sees. */
  touch(name: string): void;
}

export interface SandboxOptions {
  readonly run: string;
  readonly program: string;
  readonly cgroup?: string;
  /** Without the outer pid namespace, the agent sees the inner guard. */
  readonly exposed?: boolean;
}

export async function startSandbox(options: SandboxOptions): Promise<SandboxStandIn> {
  const { run, program, cgroup = null, exposed = false } = options;
  const dir = ordinaryFolder();
  const children: ChildProcess[] = [];
  const start = (...args: readonly string[]): ChildProcess => {
    const [command, ...rest] = args as [string, ...string[]];
    const child = spawn(command, rest, {
      cwd: dir,
      env: ENV,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    children.push(child);
    return child;
  };
  const dispose = async (): Promise<void> => {
    for (const one of children.reverse()) {
      if (one.exitCode !== null || one.signalCode !== null) continue;
      const ended = new Promise((resolve) => one.once('exit', resolve));
      one.kill('SIGKILL');
      await ended;
    }
    if (cgroup !== null) {
      const processes = join(cgroup, 'cgroup.procs');
      await until('the cgroup is empty', () => readFileSync(processes, 'latin1') === '');
      rmdirSync(cgroup);
    }
    // What the kernel is about to kill may still write.
    rmSync(dir, { recursive: true, maxRetries: 10 });
  };
  try {
    return await build();
  } catch (error) {
    await dispose();
    throw error;
  }

  async function build(): Promise<SandboxStandIn> {
    const user = asOrdinaryUser();
    const holder = start(...user, 'unshare', '--user', '--map-root-user', '--net', 'sleep', '1000');
    await until('the holder has its namespaces', () => isRunning(holder, 'sleep'));
    const enter = [...user, 'nsenter', '-t', `${holder.pid}`, '--user', '--preserve-credentials'];
    const net = start(...enter, 'unshare', '--net', 'sleep', '1000');
    await until('the agent has its network', () => isRunning(net, 'sleep'));
    const inHolder = [...enter, '--net', 'ip', 'link'];
    call(...inHolder, 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1', 'netns', `${net.pid}`);

    if (cgroup !== null) mkdirSync(cgroup);
    const join_ =
      cgroup === null ? [] : ['sh', '-c', `echo 0 > ${cgroup}/cgroup.procs; exec "$@"`, 'sh'];
    const outer = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const launched = start(
      ...join_,
      ...enter,
      'nsenter',
      '-t',
      `${net.pid}`,
      '--net',
      ...(exposed ? [] : outer),
      'bwrap',
      ...'--unshare-user --unshare-pid --unshare-ipc --die-with-parent --cap-drop ALL'.split(' '),
      ...'--uid 1000 --gid 1000 --ro-bind /usr /usr --symlink usr/bin /bin'.split(' '),
      ...'--symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev'.split(' '),
      ...['--bind', dir, '/work', '--chdir', '/work', 'perl', '-e', program],
    );
    const out = join(dir, 'out');
    const written = () => statSync(out, { throwIfNoEntry: false })?.size ?? 0;
    await until('the agent writes', () => written() > 0);
    const child = Number(childrenOf(launched.pid as number)[0]);

    return {
      registration: {
        run: run as RunId,
        holder: holder.pid as number,
        agentNet: net.pid as number,
        child,
        cgroup,
      },
      launched,
      written,
      linkExists: () => {
        try {
          call(...inHolder, 'show', 'v0');
          return true;
        } catch {
          return false;
        }
      },
      lastWriteMs: () => statSync(out).mtimeMs,
      processes: () => descendants(child),
      touch: (name) => writeFileSync(join(dir, name), ''),
      alive: () => launched.exitCode === null && launched.signalCode === null,
      [Symbol.asyncDispose]: dispose,
    };
  }
}

function call(...args: readonly string[]): void {
  const [command, ...rest] = args as [string, ...string[]];
  execFileSync(command, rest, { env: ENV, stdio: 'pipe', timeout: 5_000 });
}

function childrenOf(pid: number): readonly string[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ');
}

function descendants(pid: number): readonly number[] {
  const below = childrenOf(pid).filter(Boolean).map(Number);
  return below.flatMap((one) => [one, ...descendants(one)]);
}

function isRunning({ pid }: ChildProcess, name: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`).endsWith(`/${name}`);
  } catch {
    return false;
  }
}
