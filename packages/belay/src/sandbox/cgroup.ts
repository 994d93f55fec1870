// The cgroup (v2) of a run, where this user may make one: a freeze and a kill are then one write
// each. Without one both go through the sandbox's pid namespace.

import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import type { RunId } from '../core/ids.ts';

/** Where version 2 is mounted: alone, or beside version 1. */
export const CGROUP_MOUNTS = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'] as const;

/** The caller's own cgroup if it may make others below it. Throws what the kernel says if not. */
export function delegatedCgroup(): string | undefined {
  const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  const mount = CGROUP_MOUNTS.find((folder) => existsSync(join(folder, 'cgroup.procs')));
  if (own === undefined || mount === undefined) return undefined;
  const folder = join(mount, own);
  accessSync(folder, constants.W_OK);
  accessSync(join(folder, 'cgroup.procs'), constants.W_OK);
  return folder;
}

/** A new cgroup for a run; undefined where there can be none. */
export function makeCgroup(run: RunId): string | undefined {
  try {
    const own = delegatedCgroup();
    if (own === undefined) return undefined;
    const folder = join(own, `belay-${run}`);
    mkdirSync(folder);
    return folder;
  } catch {
    // Not delegated to this user: `belay doctor` says so, and signals do the work.
    return undefined;
  }
}

/** Removes an empty cgroup; one that still holds a process is left to the janitor. */
export function removeCgroup(folder: string | undefined): void {
  if (folder === undefined) return;
  try {
    rmdirSync(folder);
  } catch {
    // Gone already, or a process of it is not reaped yet.
  }
}
