// What an agent really finds at a path, looked up from outside through the root of its first process.
// Between the moment at which a path was judged and the one at which it was mounted, someone else may
// have put another file there; the number of a file and its device say which one it is.

import { type BigIntStats, closeSync, constants, lstatSync, openSync, readFileSync } from 'node:fs';
import { BelayError, reasonOf } from '../core/errors.ts';

export type Found =
  | { readonly kind: 'file'; readonly id: string }
  | { readonly kind: 'none' }
  /** Whoever looks may not: a folder above it is closed. */
  | { readonly kind: 'unknown' };

export interface Inside extends Disposable {
  /** The sandbox's mount namespace, as a descriptor. */
  readonly mountFd: number;
  /** The user namespace that the sandbox's belongs to, as a descriptor. */
  readonly userFd: number;
  /** By an absolute path; a link is not followed. */
  at(path: string): Found;
}

/** A link is no file that anybody judged: it has an id of its own. */
export function fileId({ dev, ino }: Pick<BigIntStats, 'dev' | 'ino'>): string {
  return `${dev}:${ino}`;
}

export function findFile(path: string): Found {
  try {
    const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    return stats === undefined ? { kind: 'none' } : { kind: 'file', id: fileId(stats) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { kind: code === 'ENOTDIR' ? 'none' : 'unknown' };
  }
}

/** `first` is the first process of the sandbox's outer pid namespace. Throws ERR_SANDBOX. */
export function openInside(first: number, agentNetPid: number): Inside {
  const fds: number[] = [];
  const open = (path: string, flags: number): number => {
    const fd = openSync(path, flags);
    fds.push(fd);
    return fd;
  };
  const close = (): void => {
    for (const fd of fds.splice(0)) closeSync(fd);
  };
  try {
    // bubblewrap, its own first process in there, and the gate that it started.
    const gate = onlyChild(onlyChild(first));
    const { O_RDONLY, O_DIRECTORY } = constants;
    const rootFd = open(`/proc/${gate}/root`, O_RDONLY | O_DIRECTORY);
    return {
      mountFd: open(`/proc/${gate}/ns/mnt`, O_RDONLY),
      userFd: open(`/proc/${agentNetPid}/ns/user`, O_RDONLY),
      at: (path) => findFile(`/proc/self/fd/${rootFd}${path}`),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw new BelayError('ERR_SANDBOX', `the sandbox cannot be looked into: ${reasonOf(error)}`);
  }
}

function onlyChild(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
  if (!/^\d+$/.test(children)) throw new Error(`process ${pid} has \`${children}\` below it`);
  return Number(children);
}
