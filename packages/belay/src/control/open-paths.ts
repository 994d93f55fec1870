// What a run may see of the host beyond /usr and its workspace, because its user said so: checked
// once, here, before anything is built. Nothing of Belay's own state is ever opened (I10), nor what
// would hand out the machine.

import { realpathSync, type Stats, statSync } from 'node:fs';
import { sep } from 'node:path';
import { asBelayError, BelayError } from '../core/errors.ts';
import { fileId } from '../sandbox/inside.ts';
import type { Home } from './home.ts';

export interface OpenPaths {
  /** Real paths. */
  readonly read: readonly string[];
  readonly write: readonly string[];
  /** Which files they were when they were judged. */
  readonly ids: Readonly<Record<string, string>>;
}

/** Views of the kernel, and folders of sockets. */
const NEVER = ['/proc', '/sys', '/dev', '/run'];
/** What the host executes. */
const NEVER_WRITTEN = ['/usr', '/etc', '/bin', '/sbin', '/lib', '/lib64', '/boot', '/opt', '/root'];

/** Throws ERR_USAGE for a path that does not exist or is not opened to anybody. */
export function openPaths(
  asked: { readonly read: readonly string[]; readonly write: readonly string[] },
  home: Home,
): OpenPaths {
  const state = stateOf(home);
  const ids: Record<string, string> = {};
  const open = (named: string, closed: readonly string[]): string => {
    let path: string;
    let found: Stats;
    try {
      path = realpathSync(named);
      found = statSync(path);
    } catch (error) {
      throw asBelayError('ERR_USAGE', `\`${named}\` cannot be opened to the agent`, error);
    }
    const refuse = (why: string): never => {
      throw new BelayError('ERR_USAGE', `\`${path}\` is not opened to an agent: ${why}`);
    };
    if (!found.isFile() && !found.isDirectory()) refuse('it is neither a file nor a folder');
    if (path === '/') refuse('it is everything');
    if (holds(path, state) || holds(state, path)) refuse("Belay's own state is there");
    const kept = closed.find((folder) => holds(folder, path));
    if (kept !== undefined) refuse(`it is in \`${kept}\``);
    ids[path] = fileId(statSync(path, { bigint: true }));
    return path;
  };
  return {
    read: asked.read.map((path) => open(path, NEVER)),
    write: asked.write.map((path) => open(path, [...NEVER, ...NEVER_WRITTEN])),
    ids,
  };
}

/** Whether `path` is `folder` or lies below it. */
export function holds(folder: string, path: string): boolean {
  return path === folder || path.startsWith(folder + sep);
}

/** Where the state really is. */
export function stateOf(home: Home): string {
  try {
    return realpathSync(home.root);
  } catch {
    return home.root; // no state yet
  }
}
