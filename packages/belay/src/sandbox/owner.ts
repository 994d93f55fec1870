// Who owns a run's folder, so that whoever finds it later knows whether its launcher still lives and
// what it left in the workspace. Written before anything that would have to be cleaned up.

import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isRunCgroup } from './cgroup.ts';
import type { Placeholder } from './masks.ts';
import { processStart } from './process-start.ts';

const OWNER_VERSION = 1;
const OWNER_FILE = 'owner.json';
const UNLINKED = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** The folder in a run's folder that holds what start wrote. */
export const FILES_FOLDER = 'sandbox';

export interface RunOwner {
  readonly v: typeof OWNER_VERSION;
  readonly pid: number;
  readonly start: string;
  readonly workdir: string;
  readonly placeholders: readonly Placeholder[];
  readonly cgroups: readonly string[];
}

export function writeOwner(runDir: string, owner: Omit<RunOwner, 'v' | 'pid' | 'start'>): void {
  const start = processStart(process.pid) ?? '';
  const text = JSON.stringify({ v: OWNER_VERSION, pid: process.pid, start, ...owner });
  const file = join(runDir, OWNER_FILE);
  // CRASH: before the rename nothing else exists yet; the next janitor removes the folder by age.
  writeFileSync(`${file}.new`, `${text}\n`, { mode: 0o644, flag: 'wx' });
  renameSync(`${file}.new`, file);
}

/** Undefined when there is none, or none that can be trusted to be ours. */
export function readOwner(runDir: string): RunOwner | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(join(runDir, OWNER_FILE), UNLINKED);
    // Root obeys only what root wrote: the folder may belong to the daemon's user.
    if (fstatSync(fd).uid !== process.getuid?.()) return undefined;
    const value: unknown = JSON.parse(readFileSync(fd, 'utf8'));
    return isOwner(value) ? value : undefined;
  } catch {
    return undefined; // not there, or torn: the folder is treated as one without an owner
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

export function isAlive(owner: RunOwner): boolean {
  return processStart(owner.pid) === owner.start;
}

export function removeRunFiles(runDir: string): void {
  rmSync(join(runDir, FILES_FOLDER), { recursive: true, force: true });
  rmSync(join(runDir, OWNER_FILE), { force: true });
}

function isOwner(value: unknown): value is RunOwner {
  if (typeof value !== 'object' || value === null) return false;
  const owner = value as Partial<Record<keyof RunOwner, unknown>>;
  return (
    owner.v === OWNER_VERSION &&
    Number.isSafeInteger(owner.pid) &&
    typeof owner.start === 'string' &&
    typeof owner.workdir === 'string' &&
    Array.isArray(owner.cgroups) &&
    owner.cgroups.every((path) => typeof path === 'string' && isRunCgroup(path)) &&
    Array.isArray(owner.placeholders) &&
    owner.placeholders.every(
      (p: Partial<Placeholder> | null) =>
        typeof p?.path === 'string' &&
        typeof p.content === 'string' &&
        (p.kind === 'file' || p.kind === 'dir'),
    )
  );
}
