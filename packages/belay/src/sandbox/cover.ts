// Mounts the masks of a sandbox, from outside, into its own mount namespace: before its command may
// start, and again when one was taken away. bubblewrap could do the first, and would read the list of
// all mounts again for each, which takes seconds where a workspace holds many repositories.

import { spawn } from 'node:child_process';
import { BelayError } from '../core/errors.ts';
import { printable } from '../core/target.ts';
import type { Inside } from './inside.ts';
import type { MaskPlan } from './masks.ts';
import { COVER } from './perl.ts';
import { TOOL_ENV } from './tools.ts';

export interface Covering {
  /** `pin`: it cannot be renamed; `close`: nor written; `hide`: nor read. */
  readonly kind: 'pin' | 'close' | 'hide';
  readonly path: string;
}

export interface Covered extends Covering {
  /** Which file is found there while the cover lasts; see fileId. */
  readonly id: string;
}

/** What a plan asks for, in the order in which it is made, but for what bubblewrap has put there. */
export function coveringsOf(
  { pins, readOnly }: MaskPlan,
  put: readonly Covering[],
): readonly Covering[] {
  const there = new Set(put.map(({ path }) => path));
  return [
    ...pins.map((path): Covering => ({ kind: 'pin', path })),
    ...readOnly
      .filter((path) => !there.has(path))
      .map((path): Covering => ({ kind: 'close', path })),
  ];
}

const MOST_SAID = 4096;
const COVER_MS = 10_000;

/** In this order. Throws ERR_SANDBOX for one that is not there, or is neither a file nor a folder. */
export async function cover(
  inside: Inside,
  coverings: readonly Covering[],
): Promise<readonly Covered[]> {
  if (coverings.length === 0) return [];
  // Root needs no user namespace to enter another's mounts; nobody else may without.
  const enter = process.getuid?.() === 0 ? 'stay' : 'enter';
  const child = spawn('perl', ['-e', COVER, '--', enter], {
    cwd: '/',
    env: TOOL_ENV,
    stdio: ['pipe', 'pipe', 'pipe', inside.userFd, inside.mountFd],
    timeout: COVER_MS,
    killSignal: 'SIGKILL',
  });
  let ids = '';
  let said = '';
  child.stdout?.setEncoding('latin1').on('data', (text: string) => {
    ids += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, MOST_SAID);
  });
  child.stdin?.on('error', () => {}); // it ended early: its status says why
  child.stdin?.end(coverings.map(({ kind, path }) => `${kind}\0${path}\0`).join(''));
  const done = await new Promise<boolean>((resolve) => {
    child.on('error', () => resolve(false));
    child.on('close', (status) => resolve(status === 0));
  });
  const found = ids.trimEnd().split('\n');
  if (!done || found.length !== coverings.length) {
    const why = printable(said.replace(/^belay: /, '').trim()) || 'no reason was given';
    throw new BelayError('ERR_SANDBOX', `a protected name cannot be covered: ${why}`);
  }
  return coverings.map((covering, i) => ({ ...covering, id: found[i] as string }));
}
