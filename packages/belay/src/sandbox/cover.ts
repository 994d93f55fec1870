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

/** What a plan asks for, in the order in which it is made, but for what shows something of ours. */
export function coveringsOf(masks: MaskPlan): readonly Covering[] {
  const shown = new Set(shownCoverings(masks).map(({ path }) => path));
  return [
    ...masks.pins.map((path) => ({ kind: 'pin', path }) as const),
    ...masks.readOnly
      .filter((path) => !shown.has(path))
      .map((path) => ({ kind: 'close', path }) as const),
  ];
}

/** What bubblewrap has put files of ours over: nothing is left to show when one of them is lost. */
export function shownCoverings({ placeholders, shown, closed }: MaskPlan): readonly Covering[] {
  const held = placeholders.filter(({ holds }) => holds);
  const hidden = [...shown.map(({ path }) => path), ...closed];
  return [
    ...held.map(({ path }) => ({ kind: 'close', path }) as const),
    ...hidden.map((path) => ({ kind: 'hide', path }) as const),
  ];
}

const MOST_SAID = 4096;
const COVER_MS = 10_000;

/** In this order. Throws ERR_SANDBOX for one that is not there, or is neither a file nor a folder. */
export async function cover(inside: Inside, coverings: readonly Covering[]): Promise<void> {
  if (coverings.length === 0) return;
  // Root needs no user namespace to enter another's mounts; nobody else may without.
  const enter = process.getuid?.() === 0 ? 'stay' : 'enter';
  const wishes = coverings.flatMap(({ kind, path }) => [kind, path]);
  const child = spawn('perl', ['-e', COVER, '--', enter, ...wishes], {
    cwd: '/',
    env: TOOL_ENV,
    stdio: ['ignore', 'ignore', 'pipe', inside.userFd, inside.mountFd],
    timeout: COVER_MS,
    killSignal: 'SIGKILL',
  });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, MOST_SAID);
  });
  const done = await new Promise<boolean>((resolve) => {
    child.on('error', () => resolve(false));
    child.on('close', (status) => resolve(status === 0));
  });
  if (done) return;
  const why = printable(said.replace(/^belay: /, '').trim()) || 'no reason was given';
  throw new BelayError('ERR_SANDBOX', `a protected name cannot be covered: ${why}`);
}
