// Decides, by looking at a workspace, how its protected names are kept from being written: which
// paths are bound read-only, which of their ancestors are pinned (a mount point cannot be renamed),
// which placeholders must exist because a missing name cannot be bound, and what files of secrets
// show. Symbolic links are never followed: a protected name that is one, or lies behind
// one, refuses the run, since a link can be replaced whatever is mounted at its target.

import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  type Stats,
  unlinkSync,
} from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { BelayError, reasonOf } from '../core/errors.ts';
import { dotenvPlaceholders } from './dotenv.ts';
import { holdsSecrets, PROTECTED, PROTECTED_OF_WORKTREE, type ProtectedName } from './protected.ts';

const MOST_DOTENV_BYTES = 256 * 1024;
/** Of all repositories; each is some five mounts. With more, no worktree of a repository can be used. */
const MOST_WORKTREES = 32;

/** Made for the run, removed at its end if it is still what was made. */
export interface Placeholder {
  readonly path: string;
  readonly kind: 'file' | 'dir';
  readonly content: string;
  /** Files that the agent sees in a folder. */
  readonly holds?: Readonly<Record<string, string>>;
}

export interface MaskPlan {
  /** Folders that stay writable and cannot be renamed; parents first. */
  readonly pins: readonly string[];
  readonly readOnly: readonly string[];
  readonly placeholders: readonly Placeholder[];
  /** Files that hold secrets, and what the agent sees in their place. */
  readonly shown: readonly { readonly path: string; readonly content: string }[];
  /** Sockets and pipes of the host. */
  readonly closed: readonly string[];
}

export interface MaskOptions {
  /** The workspace's real path. */
  readonly workdir: string;
  /** The caller's own home, where shell start files matter. */
  readonly callerHome: string;
  /** Whether the agent could create an entry in this folder. */
  readonly canWrite: (folder: string, found: Stats) => boolean;
  /** Placeholders of other runs in this workspace: masked here too, and whoever ends last removes
   * them. */
  readonly shared: readonly Placeholder[];
  /** What the configuration names, besides what is always protected. */
  readonly protect?: readonly Omit<ProtectedName, 'missing'>[];
  /** Files that appear empty and cannot be replaced, relative to the workspace. */
  readonly hide?: readonly string[];
  /** Sockets and pipes that nobody opens, relative to the workspace. */
  readonly close?: readonly string[];
  /** Folders below the workspace that are repositories, relative to it. */
  readonly repositories?: readonly string[];
}

/** Throws ERR_SANDBOX for a protected name that cannot be protected. */
export function planMasks(options: MaskOptions): MaskPlan {
  const { workdir, callerHome, canWrite, repositories = [] } = options;
  const shared = new Map(options.shared.map((placeholder) => [placeholder.path, placeholder]));
  const pins = new Set<string>();
  const readOnly = new Set<string>();
  const placeholders = new Map<string, Placeholder>();
  let worktrees = 0;
  for (const name of PROTECTED) {
    const masksMissing =
      name.missing === 'mask' || (name.missing === 'home' && workdir === callerHome);
    protect(name, masksMissing);
  }
  for (const repository of repositories) {
    for (const name of PROTECTED) {
      protect({ ...name, path: `${repository}/${name.path}` }, name.missing === 'mask');
    }
  }
  for (const git of ['.git', ...repositories.map((path) => `${path}/.git`)]) {
    const linked = worktreesOf(join(workdir, git));
    worktrees += linked?.length ?? 0;
    if (linked === undefined || worktrees > MOST_WORKTREES) {
      protect({ path: `${git}/worktrees`, kind: 'dir', missing: 'leave' }, false);
      continue;
    }
    for (const tree of linked) {
      for (const name of PROTECTED_OF_WORKTREE) {
        protect(
          { ...name, path: `${git}/worktrees/${tree}/${name.path}` },
          name.missing === 'mask',
        );
      }
    }
  }
  for (const name of options.protect ?? []) protect({ ...name, missing: 'leave' }, false);
  const shown = new Map<string, string>();
  for (const name of readdirSync(workdir).filter(holdsSecrets)) {
    const path = secretAt(workdir, name);
    if (path !== undefined) shown.set(path, path === join(workdir, name) ? namesIn(path) : '');
  }
  for (const path of options.hide ?? []) {
    protect({ path, kind: 'file', missing: 'mask' }, true);
    const file = secretAt(workdir, path);
    if (file !== undefined) shown.set(file, '');
  }
  return {
    pins: [...pins],
    readOnly: [...readOnly],
    placeholders: [...placeholders.values()],
    shown: [...shown].map(([path, content]) => ({ path, content })),
    closed: (options.close ?? [])
      .map((path) => join(workdir, path))
      .filter((path) => !shown.has(path)),
  };

  function protect(name: ProtectedName, masksMissing: boolean): void {
    const parts = name.path.split('/');
    let folder = workdir;
    let ancestors: string[] = [];
    for (const [i, part] of parts.entries()) {
      const path = join(folder, part);
      const last = i === parts.length - 1;
      const found = seen(path);
      if (found === undefined) {
        if (placeholders.has(path)) return;
        if (!masksMissing || !canWrite(folder, lstatSync(folder))) return;
        // The first missing part is masked: nothing below it can come to be either.
        const kind = last ? name.kind : 'dir';
        const holds = last && name.holds !== undefined ? { holds: name.holds } : {};
        placeholders.set(path, { path, kind, content: (last && name.content) || '', ...holds });
        readOnly.add(path);
        break;
      }
      if (found.isSymbolicLink()) {
        throw new BelayError(
          'ERR_SANDBOX',
          `\`${path}\` is a symbolic link and cannot be protected`,
          {
            hint: 'replace it by what it points to, or choose another --workdir',
          },
        );
      }
      // Whoever may open a pipe or a socket may write to it, however it is mounted.
      if (!found.isFile() && !found.isDirectory()) {
        throw new BelayError(
          'ERR_SANDBOX',
          `\`${path}\` is neither a file nor a folder and cannot be protected`,
          { hint: 'remove it, or choose another --workdir' },
        );
      }
      const theirs = shared.get(path);
      if (theirs !== undefined) {
        placeholders.set(path, theirs);
        readOnly.add(path);
        break;
      }
      // A file where a folder was expected (such as a worktree's .git): it is protected itself.
      if (last || !found.isDirectory()) {
        readOnly.add(path);
        break;
      }
      if (readOnly.has(path)) return;
      ancestors = [...ancestors, path];
      folder = path;
    }
    for (const path of ancestors) pins.add(path);
  }
}

/** The folders of a repository's worktrees; undefined when they cannot all be told. */
function worktreesOf(git: string): readonly string[] | undefined {
  try {
    const names = readdirSync(join(git, 'worktrees'), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
      .map(({ name }) => name);
    return names.some((name) => name.includes('\ufffd')) ? undefined : names;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? [] : undefined;
  }
}

/** Below a folder that is closed, and that an agent may open, nothing can be protected. */
function seen(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw new BelayError('ERR_SANDBOX', `\`${path}\` cannot be protected: ${reasonOf(error)}`, {
      hint: 'open the folders above it (chmod u+rwx), or choose another --workdir',
    });
  }
}

/** What a name of secrets stands for, as long as the agent could reach it: a pipe may tell them. */
function secretAt(workdir: string, name: string): string | undefined {
  const path = join(workdir, name);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined || found.isDirectory()) return undefined;
  if (!found.isSymbolicLink()) return path;
  try {
    const target = realpathSync(path);
    const inside = target.startsWith(workdir + sep) && !lstatSync(target).isDirectory();
    return inside ? target : undefined;
  } catch {
    return undefined; // it points nowhere: there is nothing to hide
  }
}

/** A .env file without its values. Another program may put a link there meanwhile: not followed. */
function namesIn(path: string): string {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = fstatSync(fd);
    if (!found.isFile() || found.size > MOST_DOTENV_BYTES) return '';
    return dotenvPlaceholders(readFileSync(fd, 'utf8'));
  } catch {
    return ''; // gone, or not ours to read: then it shows nothing
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Whether `uid` could create an entry in a folder, by its mode bits and the filesystem's flags. */
export function writableBy(uid: number, gid: number): MaskOptions['canWrite'] {
  return (folder, found) => {
    try {
      accessSync(folder, constants.W_OK);
    } catch {
      return false; // a read-only filesystem refuses root too
    }
    if (found.uid === uid) return (found.mode & 0o200) !== 0;
    if (found.gid === gid) return (found.mode & 0o020) !== 0;
    return (found.mode & 0o002) !== 0;
  };
}

/**
 * Removes placeholders that are still what was made. The agent is gone; the workspace is the
 * user's, so each parent is checked to be no link before anything below it is touched.
 */
export function removePlaceholders(
  workdir: string,
  placeholders: readonly Placeholder[],
  keep: ReadonlySet<string>,
): void {
  for (const { path, kind, content } of [...placeholders].reverse()) {
    if (keep.has(path) || !path.startsWith(workdir + sep)) continue;
    try {
      const parent = dirname(path);
      if (realpathSync(parent) !== parent) continue;
      const found = lstatSync(path);
      if (kind === 'dir' && found.isDirectory()) rmdirSync(path);
      if (kind === 'file' && found.isFile() && found.size === Buffer.byteLength(content)) {
        if (readFileSync(path, 'utf8') === content) unlinkSync(path);
      }
    } catch {
      // Gone already, or filled by someone else (rmdir refuses): then it is theirs.
    }
  }
}
