// Sees to it that the masks of a standing sandbox stay. A mount is gone when a program outside
// renames something over what it covers, as `git config` and many an editor do; the kernel asks
// nobody. Each mask is looked at many times a second, made again when it is gone, and told of: for
// that moment the agent could have used the name. One that cannot be made again ends the run.

import { dirname } from 'node:path';
import { type Covered, cover } from './cover.ts';
import type { Inside } from './inside.ts';

export interface LostMask {
  readonly path: string;
  /** At most; from the last look at which it was there to when it was there again. */
  readonly forMs: number;
  readonly restored: boolean;
}

export interface MaskWatchOptions {
  readonly inside: Inside;
  /** With what is found there as long as the mask is. */
  readonly masks: readonly Covered[];
  readonly onLost: (lost: readonly LostMask[]) => void;
}

interface Watched extends Omit<Covered, 'id'> {
  id: string;
  /** When it was first seen to be gone from a folder that is still there. */
  goneMs?: number | undefined;
}

const LOOK_MS = 50;
/** Who replaces a file or removes a tree takes a moment. */
const GONE_MS = 1_000;
/** A look takes at most this part of the time. */
const LOOK_SHARE = 0.05;

export function watchMasks({ inside, masks, onLost }: MaskWatchOptions): AsyncDisposable {
  const watched = masks.map((mask): Watched => ({ ...mask }));
  let timer: NodeJS.Timeout | undefined;
  let restoring: Promise<void> | undefined;
  let ended = false;
  let lookedMs = performance.now();
  /** Since when what was replaced cannot be covered. */
  let failingMs: number | undefined;

  /** A name that is gone can be made by the agent, but not where the folder went, too. */
  const isMissed = (mask: Watched): boolean => {
    const nowMs = performance.now();
    const makable = mask.kind === 'close' && inside.at(dirname(mask.path)).kind !== 'none';
    mask.goneMs = makable ? (mask.goneMs ?? nowMs) : undefined;
    return makable && nowMs - (mask.goneMs ?? nowMs) >= GONE_MS;
  };
  const look = async (): Promise<void> => {
    const startedMs = performance.now();
    const gone: Watched[] = [];
    const others: Watched[] = [];
    for (const mask of watched) {
      const found = inside.at(mask.path);
      if (found.kind === 'file') mask.goneMs = undefined;
      if (found.kind === 'none' && isMissed(mask)) gone.push(mask);
      else if (found.kind === 'file' && found.id !== mask.id) others.push(mask);
    }
    // Undefined: such as a link in its place, or a file that is replaced once more just now.
    const covered = await cover(inside, others).catch(() => undefined);
    if (ended) return;
    const nowMs = performance.now();
    failingMs = covered === undefined ? (failingMs ?? nowMs) : undefined;
    const over = gone.length > 0 || (failingMs !== undefined && nowMs - failingMs >= GONE_MS);
    if (covered !== undefined || over) {
      const lost = [...gone, ...others].map(({ path }) => {
        return { path, forMs: Math.ceil(nowMs - lookedMs), restored: !over };
      });
      if (lost.length > 0) onLost(lost);
      if (over) return;
      lookedMs = startedMs;
    }
    // In the same order. What was found when it was covered: it may have been replaced since.
    for (const [n, mask] of others.entries()) mask.id = covered?.[n]?.id ?? mask.id;
    const tookMs = others.length > 0 ? 0 : nowMs - startedMs;
    timer = setTimeout(next, Math.max(LOOK_MS, tookMs / LOOK_SHARE)).unref();
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
