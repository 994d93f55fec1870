// Removes what runs leave behind whose launcher was killed: their cgroups, their placeholders in the
// workspace and their folder. Their processes are gone by then: the kernel kills them with their
// parent. A run whose launcher lives is not touched, and a placeholder that a living run relies on
// stays: removing the name would take that run's mask away with it.

import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, isRunId } from '../core/ids.ts';
import { killCgroups, removeCgroups } from './cgroup.ts';
import { removePlaceholders } from './masks.ts';
import { isAlive, type RunOwner, readOwner } from './owner.ts';
import { TOOL_ENV } from './tools.ts';

/** A folder without an owner may be one whose launcher is about to write it. */
const UNOWNED_MS = 10 * 60_000;

/** Returns the names of the run folders that it removed. */
export function janitor(runsDir: string, clock: Clock): readonly string[] {
  const removed: string[] = [];
  for (const name of runFolders(runsDir)) {
    const folder = join(runsDir, name);
    const owner = readOwner(folder);
    if (owner === undefined) {
      const age = clock() - (statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? clock());
      if (age < UNOWNED_MS) continue;
    } else {
      if (isAlive(owner)) continue;
      killCgroups(owner.cgroups);
      removePlaceholders(owner.workdir, owner.placeholders, reliedUpon(runsDir, name));
      // The folder names them: it stays until they are gone.
      if (!removeCgroups(owner.cgroups)) continue;
    }
    // CRASH: the owner file goes with the folder, so an interrupted removal is repeated.
    try {
      removeTree(folder);
      removed.push(name);
    } catch {
      // Another user's: theirs to remove.
    }
  }
  return removed;
}

/** Goes from descriptor to descriptor, which Node's own does not: its owner may put a link in it. */
export function removeTree(path: string): void {
  execFileSync('rm', ['-rf', '--', path], { env: TOOL_ENV, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Placeholders that living runs other than `except` rely on. */
export function reliedUpon(runsDir: string, except?: string): ReadonlySet<string> {
  const paths = new Set<string>();
  for (const owner of livingOwners(runsDir, except)) {
    for (const placeholder of owner.placeholders) paths.add(placeholder.path);
  }
  return paths;
}

/** Whether a living run put it there, and nobody wrote something else into it. */
export function isPlaceholder(runsDir: string, path: string, text: string): boolean {
  return livingOwners(runsDir).some(({ placeholders }) =>
    placeholders.some((one) => one.kind === 'file' && one.path === path && one.content === text),
  );
}

export function livingOwners(runsDir: string, except?: string): readonly RunOwner[] {
  return runFolders(runsDir)
    .filter((name) => name !== except)
    .map((name) => readOwner(join(runsDir, name)))
    .filter((owner) => owner !== undefined)
    .filter(isAlive);
}

function runFolders(runsDir: string): readonly string[] {
  try {
    return readdirSync(runsDir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && isRunId(entry.name))
      .map((entry) => entry.name);
  } catch {
    return []; // cannot be listed: there is nothing that we could remove
  }
}
