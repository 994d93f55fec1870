// Sees to it that the masks of a standing sandbox stay. A mount is gone when a program outside
// renames something over what it covers, as `git config` and many an editor do; the kernel asks
// nobody. Each mask is looked at many times a second, made again when it is gone, and told of: for
// that moment the agent could have used the name. One that cannot be made again ends the run.

import { spawn } from 'node:child_process';
import type { Inside } from './inside.ts';
import type { MaskPlan } from './masks.ts';
import { REMASK } from './perl.ts';
import { TOOL_ENV } from './tools.ts';

export interface LostMask {
  readonly path: string;
  /** At most; from the last look at which it was there to when it was there again. */
  readonly forMs: number;
  readonly restored: boolean;
}

export interface MaskWatchOptions {
  readonly inside: Inside;
  readonly masks: MaskPlan;
  readonly onLost: (lost: readonly LostMask[]) => void;
}

type Kind = 'pin' | 'close' | 'hide';

interface Watched {
  readonly kind: Kind;
  readonly path: string;
  id: string;
}

const LOOK_MS = 50;
/** A look takes at most this part of the time. */
const LOOK_SHARE = 0.05;

export function watchMasks({ inside, masks, onLost }: MaskWatchOptions): AsyncDisposable {
  const watched = [
    ...masks.pins.map((path) => ['pin', path] as const),
    ...masks.readOnly.map((path) => ['close', path] as const),
    ...masks.shown.map(({ path }) => ['hide', path] as const),
  ].flatMap(([kind, path]): Watched[] => {
    const found = inside.at(path);
    return found.kind === 'file' ? [{ kind, path, id: found.id }] : [];
  });
  let timer: NodeJS.Timeout | undefined;
  let restoring: Promise<void> | undefined;
  let ended = false;
  let lookedMs = performance.now();

  const look = async (): Promise<void> => {
    const startedMs = performance.now();
    const gone: Watched[] = [];
    const others: Watched[] = [];
    for (const mask of watched) {
      const found = inside.at(mask.path);
      if (found.kind === 'none') gone.push(mask);
      else if (found.kind === 'file' && found.id !== mask.id) others.push(mask);
    }
    const restored = others.length > 0 && gone.length === 0 && (await remask(inside, others));
    if (ended) return;
    const nowMs = performance.now();
    const lost = [...gone, ...others].map(({ path }) => {
      return { path, forMs: Math.ceil(nowMs - lookedMs), restored };
    });
    if (lost.length > 0) onLost(lost);
    if (lost.length > 0 && !restored) return;
    for (const mask of others) {
      const found = inside.at(mask.path);
      if (found.kind === 'file') mask.id = found.id;
    }
    lookedMs = startedMs;
    const tookMs = nowMs - startedMs;
    timer = setTimeout(next, Math.max(LOOK_MS, others.length > 0 ? 0 : tookMs / LOOK_SHARE));
    timer.unref();
  };
  const next = (): void => {
    restoring = look();
  };
  next();
  return {
    async [Symbol.asyncDispose]() {
      ended = true;
      clearTimeout(timer);
      await restoring;
    },
  };
}

/** Whether all of them are covered again. */
function remask(inside: Inside, masks: readonly Watched[]): Promise<boolean> {
  return new Promise((resolve) => {
    // Root needs no user namespace to enter another's mounts; nobody else may without.
    const enter = process.getuid?.() === 0 ? 'stay' : 'enter';
    const wishes = masks.flatMap(({ kind, path }) => [kind, path]);
    const child = spawn('perl', ['-e', REMASK, '--', enter, ...wishes], {
      cwd: '/',
      env: TOOL_ENV,
      stdio: ['ignore', 'ignore', 'ignore', inside.userFd, inside.mountFd],
    });
    child.on('error', () => resolve(false));
    child.on('close', (status) => resolve(status === 0));
  });
}
