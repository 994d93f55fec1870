// The cgroups of a run, where this user may make some. Version 2 freezes and kills with one write
// each; processes and memory are limited by whichever hierarchy carries the controller, version 2
// or, on a host that mounts both, version 1. Where there is none, resource limits of the processes
// stand in, and the limits are called weak: each holds for one process or one user, not for the run.

import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { totalmem } from 'node:os';
import { basename, dirname, join, normalize } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRunId, type RunId } from '../core/ids.ts';

/** Where version 2 is mounted: alone, or beside version 1. */
export const CGROUP_MOUNTS = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'] as const;
const V1_MOUNT = '/sys/fs/cgroup';
const REMOVE_TRIES = 50;
const REMOVE_PAUSE_MS = 20;

export interface Limits {
  /** Processes and threads of a run. */
  readonly processes: number;
  /** Of a run, in bytes; where limits are weak, of each process. */
  readonly memoryBytes: number;
}

export const DEFAULT_LIMITS: Limits = {
  processes: 4096,
  memoryBytes: Math.floor(totalmem() * 0.75),
};

export interface RunCgroups {
  /** Version 2; undefined: a freeze and a kill go through the pid namespace. */
  readonly control: string | undefined;
  /** Every folder that the agent joins before it runs. */
  readonly join: readonly string[];
  /** What no cgroup limits. */
  readonly weak: readonly (keyof Limits)[];
}

interface Controller {
  readonly name: 'pids' | 'memory';
  readonly limit: keyof Limits;
  /** The files that hold the limit, in the order in which they are written; later ones may lack. */
  readonly v1: readonly string[];
  readonly v2: readonly string[];
}

const CONTROLLERS: readonly Controller[] = [
  { name: 'pids', limit: 'processes', v1: ['pids.max'], v2: ['pids.max'] },
  {
    name: 'memory',
    limit: 'memoryBytes',
    v1: ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes'],
    v2: ['memory.max'],
  },
];

/** A place for a run's cgroup in one hierarchy: a folder in which the caller may make another. */
interface Place {
  readonly folder: string;
  readonly controllers: readonly string[];
}

/** Where version 2 lets the caller make a cgroup; undefined where nowhere. */
export function delegatedCgroup(): string | undefined {
  return placeV2()?.folder;
}

/** Whether processes and memory can be limited for a run as a whole. */
export function limitedByCgroup(): readonly (keyof Limits)[] {
  const v2 = placeV2();
  return CONTROLLERS.filter(
    ({ name }) => v2?.controllers.includes(name) || placeV1(name) !== undefined,
  ).map(({ limit }) => limit);
}

/** New cgroups for a run, as far as this user may make them; their limits are set. */
export function makeCgroups(run: RunId, limits: Limits): RunCgroups {
  const name = `belay-${run}`;
  const v2 = placeV2();
  const control = v2 && makeFolder(join(v2.folder, name));
  const joined = control === undefined ? [] : [control];
  const weak: (keyof Limits)[] = [];
  for (const controller of CONTROLLERS) {
    const value = String(limits[controller.limit]);
    if (control !== undefined && v2?.controllers.includes(controller.name)) {
      if (write(control, controller.v2, value)) continue;
    }
    const parent = placeV1(controller.name);
    const folder = parent && makeFolder(join(parent, name));
    if (folder !== undefined) {
      joined.push(folder);
      if (write(folder, controller.v1, value)) continue;
    }
    weak.push(controller.limit);
  }
  return { control, join: joined, weak };
}

/** Removes empty cgroups and answers whether all are gone: a process may not be reaped yet. */
export function removeCgroups(folders: readonly string[]): boolean {
  for (const folder of folders) {
    try {
      rmdirSync(folder);
    } catch {
      // Gone already, or not empty: the answer says which.
    }
  }
  return !folders.some((folder) => existsSync(folder));
}

/** The same, for as long as the kernel needs to let go of processes that were killed. */
export async function removeCgroupsSoon(folders: readonly string[]): Promise<void> {
  for (let tries = 0; tries < REMOVE_TRIES && !removeCgroups(folders); tries++) {
    await sleep(REMOVE_PAUSE_MS);
  }
}

/** Ends every process of a run, where version 2 holds it, then removes what is empty. */
export function killCgroups(folders: readonly string[]): void {
  for (const folder of folders) {
    try {
      // Only version 2 has the file: where it does not exist, nothing is made.
      if (existsSync(join(folder, 'cgroup.kill'))) writeFileSync(join(folder, 'cgroup.kill'), '1');
    } catch {
      // An older kernel, or gone: the signal to the sandbox's first process does the same.
    }
  }
}

/** Of a run's own making: what an owner file may name. */
export function isRunCgroup(folder: string): boolean {
  const name = basename(folder);
  const ours = name.startsWith('belay-') && isRunId(name.slice('belay-'.length));
  return ours && folder.startsWith(`${V1_MOUNT}/`) && normalize(folder) === folder;
}

/** Its own cgroup, or, where processes keep it from carrying controllers, the one around it. */
function placeV2(): Place | undefined {
  const own = ownPath('');
  const mount = CGROUP_MOUNTS.find((folder) => existsSync(join(folder, 'cgroup.procs')));
  if (own === undefined || mount === undefined) return undefined;
  const places = [join(mount, dirname(own)), join(mount, own)].map((folder) => ({
    folder,
    controllers: words(join(folder, 'cgroup.subtree_control')),
  }));
  const writable = places.filter(({ folder }) => mayMakeIn(folder));
  return writable.find(({ controllers }) => controllers.length > 0) ?? writable.at(-1);
}

function placeV1(controller: string): string | undefined {
  const own = ownPath(controller);
  if (own === undefined) return undefined;
  const folder = join(V1_MOUNT, controller, own);
  return mayMakeIn(folder) ? folder : undefined;
}

/** The caller's path in the hierarchy of a controller of version 1, or, unnamed, in version 2. */
function ownPath(controller: string): string | undefined {
  for (const line of readFileSync('/proc/self/cgroup', 'utf8').split('\n')) {
    const [, names = '', path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path !== undefined && names.split(',').includes(controller)) return path;
  }
  return undefined;
}

function mayMakeIn(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    accessSync(join(folder, 'cgroup.procs'), constants.W_OK);
    return true;
  } catch {
    return false; // not delegated to this user: `belay doctor` says so
  }
}

function makeFolder(folder: string): string | undefined {
  try {
    mkdirSync(folder);
    return folder;
  } catch {
    return undefined; // the hierarchy is full, or was taken away: the limits are weak
  }
}

/** Whether the first file took the value; the others exist only on some kernels. */
function write(folder: string, files: readonly string[], value: string): boolean {
  return files
    .map((file) => {
      try {
        writeFileSync(join(folder, file), value);
        return true;
      } catch {
        return false; // no such controller here after all
      }
    })
    .some(Boolean);
}

function words(path: string): readonly string[] {
  try {
    return readFileSync(path, 'utf8').trim().split(/\s+/).filter(Boolean);
  } catch {
    return [];
  }
}
