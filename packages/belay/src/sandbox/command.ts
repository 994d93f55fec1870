// Finds the program that a caller means and what must be visible for it inside, where only /usr is:
// its package, and the interpreter that its first line asks for. Never shows a whole home, the root
// or a folder above the workspace: then only the file itself.

import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, delimiter, dirname, isAbsolute, join, sep } from 'node:path';
import { BelayError } from '../core/errors.ts';
import { printable } from '../core/target.ts';

/** PATH inside, behind the folders that the command needs. */
export const AGENT_PATH = '/usr/local/bin:/usr/bin:/bin';

export interface CommandBinds {
  /** The caller's command with the program as it is named inside. */
  readonly command: readonly string[];
  /** PATH, when the program or its interpreter is outside /usr. */
  readonly env: Readonly<Record<string, string>>;
  /** Paths to bind read-only. */
  readonly readOnly: readonly string[];
}

export interface CommandPlace {
  /** The caller's folder, for a command with a slash in it. */
  readonly cwd: string;
  readonly home: string;
  /** The workspace's real path. */
  readonly workdir: string;
}

/** Throws ERR_USAGE when there is no such program. */
export function commandBinds(
  command: readonly string[],
  callerPath: string,
  place: CommandPlace = { cwd: process.cwd(), home: homedir(), workdir: process.cwd() },
): CommandBinds {
  const [word = '', ...rest] = command;
  const found = locate(word, { ...place, path: callerPath }, 0);
  if (found === undefined) {
    throw new BelayError('ERR_USAGE', `command \`${printable(word)}\` not found`, {
      hint: 'give a path, or a name that your PATH has',
    });
  }
  const { program, readOnly, path } = found;
  const env = path.length === 0 ? {} : { PATH: [...path, AGENT_PATH].join(delimiter) };
  return { command: [program, ...rest], env, readOnly };
}

interface Lookup extends CommandPlace {
  readonly path: string;
}

interface Located {
  readonly program: string;
  readonly readOnly: readonly string[];
  /** Folders to put in front of PATH. */
  readonly path: readonly string[];
}

function locate(command: string, place: Lookup, depth: number): Located | undefined {
  const found = find(command, place);
  if (found === undefined) return undefined;
  const file = realpathSync(found);
  const interpreter = depth > 2 ? undefined : interpreterOf(file);
  const below = interpreter === undefined ? undefined : locate(interpreter, place, depth + 1);
  const extra = below?.readOnly ?? [];
  const path = below?.path ?? [];
  const own = isAbsolute(below?.program ?? '') ? [dirname(below?.program ?? '')] : [];
  const folders = [...new Set([...own, ...path])];
  // /bin and /sbin are links into /usr on every system that bwrap's layout supports.
  if (file.startsWith('/usr/')) {
    return { program: bareName(command, found), readOnly: extra, path: folders };
  }
  if (within(file, place.workdir)) return { program: file, readOnly: extra, path: folders };
  const readOnly = [...new Set([rootOf(file, place), ...extra])];
  return { program: file, readOnly, path: folders };
}

function bareName(command: string, found: string): string {
  // Names such as those of busybox or /etc/alternatives say which program is meant: keep them.
  if (!command.includes('/') && found.startsWith('/usr/')) return command;
  return isAbsolute(found) && /^\/(?:usr|s?bin)\//.test(found) ? found : realpathSync(found);
}

function find(command: string, { path, cwd }: Lookup): string | undefined {
  const folders = command.includes('/') ? [''] : path.split(delimiter).filter(isAbsolute);
  for (const folder of folders) {
    const file = folder === '' && !isAbsolute(command) ? join(cwd, command) : join(folder, command);
    try {
      if (!statSync(file).isFile()) continue;
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not here: the next folder may have it.
    }
  }
  return undefined;
}

/** `node` of `#!/usr/bin/env node`; other interpreters are given by path, which must exist inside. */
function interpreterOf(file: string): string | undefined {
  const bytes = Buffer.alloc(256);
  const fd = openSync(file, 'r');
  const length = readSync(fd, bytes, 0, bytes.length, 0);
  closeSync(fd);
  const line = bytes.toString('latin1', 0, length).split('\n', 1)[0] ?? '';
  return /^#!\s*\/usr\/bin\/env\s+(?:-S\s+)?([A-Za-z0-9._-]+)(?:\s|$)/.exec(line)?.[1];
}

/** The outermost `node_modules` above the file, for its packages are siblings; else its folder. */
function rootOf(file: string, { home, workdir }: CommandPlace): string {
  const parts = dirname(file).split(sep);
  const modules = parts.indexOf('node_modules');
  const root = modules < 0 ? dirname(file) : parts.slice(0, modules + 1).join(sep);
  const tooWide = within(workdir, root) || within(home, root) || root.split(sep).length < 3;
  return tooWide || basename(root).startsWith('.') ? file : root;
}

/** Whether `path` is `folder` or lies in it. */
export function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : folder + sep);
}
