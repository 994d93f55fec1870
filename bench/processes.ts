// Processes of a bench: started on one core, bounded, ended by their own handle; and what the kernel
// says of them: the processor time of all their threads, their memory, their children.

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** What is measured runs here, alone. */
export const PEER_CORE = 0;
/** The load generator, the upstream, and what of a run is not the gateway. */
export const LOAD_CORE = 1;
const GRACE_MS = 5_000;

/** A program whose threads and children all stay on one core. */
export function startOn(
  core: number,
  command: readonly string[],
  options: SpawnOptions = {},
): ChildProcess {
  return spawn('taskset', ['-c', String(core), ...command], options);
}

export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  const late = sleep(GRACE_MS).then(() => void child.kill('SIGKILL'));
  await Promise.race([exited, late]);
}

/** Polls until there is an answer; throws when there is none within the time. */
export async function until<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  withinMs = 20_000,
): Promise<T> {
  const deadlineMs = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadlineMs) throw new Error(`no ${what} within ${withinMs} ms`);
    await sleep(20);
  }
}

/** Nanoseconds on a processor, all living threads of all these processes. */
export function cpuNs(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    for (const task of list(`/proc/${pid}/task`)) {
      sum += Number(read(`/proc/${pid}/task/${task}/schedstat`).split(' ', 1)[0]);
    }
  }
  return sum;
}

/** A process and everything that descends from it. */
export function familyOf(pid: number): readonly number[] {
  const children = list(`/proc/${pid}/task`).flatMap((task) =>
    read(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(familyOf)];
}

export function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(read(`/proc/${pid}/status`))?.[1]);
}

export function commandLineOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
}

/** Whether every thread may run on this core and no other. */
export function isPinned(pid: number, core: number): boolean {
  const tasks = list(`/proc/${pid}/task`);
  const status = (task: string): string => read(`/proc/${pid}/task/${task}/status`);
  return tasks.length > 0 && tasks.every((task) => status(task).includes(`_list:\t${core}\n`));
}

/** The peak of resident memory, in bytes, added up. */
export function peakRssBytes(pids: readonly number[]): number {
  return sumKib(pids, /^VmHWM:\s+(\d+) kB$/m);
}

export function rssBytes(pids: readonly number[]): number {
  return sumKib(pids, /^VmRSS:\s+(\d+) kB$/m);
}

function sumKib(pids: readonly number[], line: RegExp): number {
  let kib = 0;
  for (const pid of pids) kib += Number(line.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
  return kib * 1024;
}

/** Empty when the process is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function list(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
