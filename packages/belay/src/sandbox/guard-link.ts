// What the guard can do to one run: cut its link, freeze it, thaw it, kill it. `openLink` checks
// that the registered processes are what they are said to be (alive and the same before and after,
// the first process of a pid namespace that is not the guard's, network namespaces that are not the
// guard's), then starts the inner guard in their namespaces (guard-inside.ts). From then on no
// process id is trusted again except to kill, after its start time is compared. Every wait has a
// bound; a primitive that fails throws ERR_GUARD, and the guard then kills the run.

import { type ChildProcess, spawn } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, normalize } from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BelayError } from '../core/errors.ts';
import { CGROUP_MOUNTS } from './cgroup.ts';
import { INNER_GUARD_COMMAND } from './guard-inside.ts';
import type { FreezeMethod, RunRegistration } from './guard-protocol.ts';
import { isExiting, processStart } from './process-start.ts';
import { TOOL_ENV } from './tools.ts';

const READY_MS = 4_000;
const ANSWER_MS = 2_000;
const CGROUP_FREEZE_MS = 1_000;
const KILL_MS = 900;

export interface SandboxLink extends AsyncDisposable {
  readonly method: FreezeMethod;
  /** Resolves when the sandbox has ended, or its inner guard: either way nobody guards the run. */
  readonly ended: Promise<void>;
  /** Deletes the veth: from here on no packet moves in either direction. */
  cut(): Promise<void>;
  /** Resolves when nothing of the agent runs. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Resolves when no process of the sandbox is left. */
  kill(): Promise<void>;
}

/** Checks a registration and enters the run's namespaces. `onBroke` is called when a run that was
 * frozen moves again and cannot be stopped. */
export async function openLink(
  registration: RunRegistration,
  onBroke: () => void,
): Promise<SandboxLink> {
  const { run, holder, agentNet, child } = registration;
  const started = [holder, agentNet, child].map(processStart);
  if (started.includes(undefined)) {
    throw new BelayError('ERR_GUARD', `${run}: a process of the sandbox is gone`);
  }
  const cgroup = ownCgroup(registration);
  if (!isFirstOfPidNamespace(child)) {
    throw new BelayError('ERR_GUARD', `${run}: process ${child} is not the first of a sandbox`);
  }
  const files: number[] = [];
  let inner: InnerGuard;
  try {
    for (const path of [`${holder}/ns/user`, `${holder}/ns/net`, `${child}/ns/pid`]) {
      files.push(openSync(`/proc/${path}`, 'r'));
    }
    const [user, net, pid] = files.map((file) => fstatSync(file).ino);
    const agent = statSync(`/proc/${agentNet}/ns/net`).ino;
    const mine = (kind: string) => statSync(`/proc/self/ns/${kind}`).ino;
    // A wrong id here would cut or stop the host itself.
    if (user === mine('user') || net === mine('net') || pid === mine('pid')) {
      throw new BelayError('ERR_GUARD', `${run}: a namespace of the host cannot be guarded`);
    }
    if (agent === net || agent === mine('net')) {
      throw new BelayError('ERR_GUARD', `${run}: the agent shares a network with what guards it`);
    }
    inner = startInnerGuard(files, ownerOf(holder), onBroke);
  } finally {
    for (const file of files) closeSync(file);
  }
  try {
    await inner.answer('r', READY_MS);
    if ([holder, agentNet, child].some((id, i) => processStart(id) !== started[i])) {
      throw new BelayError('ERR_GUARD', `${run}: a process of the sandbox ended`);
    }
  } catch (error) {
    inner.stop();
    throw error;
  }

  const kill = async (): Promise<void> => {
    if (processStart(child) === started[2] && !isExiting(child)) {
      if (cgroup !== null) write(join(cgroup, 'cgroup.kill'), '1');
      signal(child);
    } else if (cgroup !== null) {
      // With the first process ending, the kernel has ended all of the sandbox. The cgroup also holds
      // what waits for it, to pass on its status, and may be frozen.
      write(join(cgroup, 'cgroup.freeze'), '0');
    }
    const late = new AbortController();
    const inTime = await Promise.race([
      inner.ended.then(() => true),
      sleep(KILL_MS, false, { signal: late.signal, ref: false }),
    ]);
    late.abort();
    if (!inTime) throw new BelayError('ERR_GUARD', `${run} did not end within ${KILL_MS} ms`);
  };
  let signalled = false;

  return {
    method: cgroup === null ? 'signal' : 'cgroup',
    ended: inner.ended,
    cut: () => inner.ask('c'),
    async freeze() {
      if (cgroup !== null && (await freezeCgroup(cgroup))) return;
      signalled = true;
      await inner.ask('f');
    },
    async thaw() {
      if (cgroup !== null) write(join(cgroup, 'cgroup.freeze'), '0');
      // Without a cgroup always: an earlier guard may have left the run stopped.
      if (cgroup === null || signalled) await inner.ask('t');
      signalled = false;
    },
    kill,
    async [Symbol.asyncDispose]() {
      inner.stop();
      await inner.ended;
    },
  };
}

interface InnerGuard {
  readonly ended: Promise<void>;
  answer(letter: string, boundMs: number): Promise<void>;
  ask(letter: string): Promise<void>;
  stop(): void;
}

/** Whom uid and gid 0 of the bridge's user namespace are outside: what a program that enters it has
 * to be, or it would lose its capabilities there when it is executed. */
function ownerOf(holder: number): { readonly uid: number; readonly gid: number } {
  const outside = (map: string): number => {
    const [inside, id] = readFileSync(`/proc/${holder}/${map}`, 'utf8').trim().split(/\s+/);
    if (inside !== '0') throw new BelayError('ERR_GUARD', `process ${holder} maps no uid 0`);
    return Number(id);
  };
  return { uid: outside('uid_map'), gid: outside('gid_map') };
}

function startInnerGuard(
  namespaces: readonly number[],
  owner: { readonly uid: number; readonly gid: number },
  onBroke: () => void,
): InnerGuard {
  const [command, ...args] = INNER_GUARD_COMMAND;
  const child: ChildProcess = spawn(command, args, {
    cwd: '/',
    // Its own session: a terminal's signals do not reach it.
    detached: true,
    ...(process.getuid?.() === 0 ? owner : {}),
    env: TOOL_ENV,
    stdio: ['pipe', 'pipe', 'pipe', ...namespaces],
  });
  const waiting = new Map<string, (error: BelayError | null) => void>();
  let complaint = '';
  let gone: string | null = null;
  const over = Promise.withResolvers<void>();
  const end = (why: string): void => {
    gone = why;
    for (const settle of waiting.values()) settle(new BelayError('ERR_GUARD', why));
    over.resolve();
  };
  const input = child.stdin as Writable;
  // The end of the process, reported by `close`, says the same.
  input.on('error', () => {});
  child.on('error', (error) => end(`the inner guard did not start: ${error.message}`));
  child.on('close', () => end(`the inner guard ended${complaint && `: ${complaint.trim()}`}`));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(0, 300);
  });
  let rest = '';
  child.stdout?.setEncoding('latin1').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = (lines.pop() as string).slice(0, 8);
    for (const line of lines) {
      if (line === 'w-') onBroke();
      const error = new BelayError('ERR_GUARD', `the inner guard failed at \`${line}\``);
      waiting.get(line.charAt(0))?.(line.endsWith('+') ? null : error);
    }
  });

  const answer = (letter: string, boundMs: number): Promise<void> =>
    new Promise((resolve, reject) => {
      if (gone !== null) throw new BelayError('ERR_GUARD', gone);
      const settle = (error: BelayError | null): void => {
        clearTimeout(timer);
        waiting.delete(letter);
        if (error === null) resolve();
        else reject(error);
      };
      const timer = setTimeout(
        () =>
          settle(new BelayError('ERR_GUARD', `no answer from the inner guard to \`${letter}\``)),
        boundMs,
      );
      waiting.set(letter, settle);
    });
  return {
    ended: over.promise,
    answer,
    ask(letter) {
      const answered = answer(letter, ANSWER_MS);
      input.write(letter);
      return answered;
    },
    stop: () => input.end(),
  };
}

async function freezeCgroup(cgroup: string): Promise<boolean> {
  if (!write(join(cgroup, 'cgroup.freeze'), '1')) return false;
  for (let waitedMs = 0; waitedMs < CGROUP_FREEZE_MS; waitedMs += 2) {
    if (/^frozen 1$/m.test(readFileSync(join(cgroup, 'cgroup.events'), 'latin1'))) return true;
    await sleep(2);
  }
  return false;
}

function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended in between, or it is not ours to kill: the caller waits for its end and says so.
  }
}

function write(path: string, text: string): boolean {
  try {
    writeFileSync(path, text);
    return true;
  } catch {
    // Gone with its last process, or never ours: the caller has another way.
    return false;
  }
}

/** The run's cgroup if this process may freeze it. Throws for one that does not hold the run: to
 * freeze it would prove nothing. */
function ownCgroup({ run, child, cgroup }: RunRegistration): string | null {
  if (cgroup === null) return null;
  const inside = (id: number | 'self'): boolean => {
    const path = /^0::(.*)$/m.exec(readFileSync(`/proc/${id}/cgroup`, 'utf8'))?.[1] ?? '';
    return CGROUP_MOUNTS.some((mount) => `${mount}${path}/`.startsWith(`${cgroup}/`));
  };
  if (
    normalize(cgroup) !== cgroup ||
    CGROUP_MOUNTS.some((mount) => mount === cgroup) ||
    !inside(child)
  ) {
    throw new BelayError('ERR_GUARD', `${run}: its cgroup does not hold it`);
  }
  if (inside('self')) throw new BelayError('ERR_GUARD', `${run}: its cgroup holds the guard`);
  try {
    accessSync(join(cgroup, 'cgroup.freeze'), constants.W_OK);
    return cgroup;
  } catch {
    // Not delegated to us: signals do it.
    return null;
  }
}

/** Its own pid namespace has given it the number 1, and ours another. */
function isFirstOfPidNamespace(pid: number): boolean {
  const ids = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return ids !== undefined && /\s1$/.test(ids);
}
