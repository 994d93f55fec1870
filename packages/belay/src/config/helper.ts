// Asks a credential helper (`exec:`) for a secret, outside every sandbox and with the user's rights. So
// neither it nor what it finds by PATH is anything that an agent can write, nor is anything on the way to
// it: a link in a folder of the agent leads where the agent chose, and takes the arguments along. Those
// that the configuration writes are the user's, and are not looked into.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, readlinkSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join, sep } from 'node:path';
import type { SecretSource } from './config.ts';

type Variables = Readonly<Record<string, string | undefined>>;

export type HelperAnswer =
  | { readonly kind: 'said'; readonly text: string }
  | { readonly kind: 'failed'; readonly why: string; readonly hint?: string };

const HELPER_MS = 10_000;
const MOST_BYTES = 65_536;
const MOST_LINKS = 40;
const QUOTES = /["'`]/g;
/** What may stand beside a path in a variable; or be a part of its name. */
const PARTED = [':', /[\s:;,=]+/, QUOTES];
const IN_REACH = 'is where the agent can write, or a link there leads to it';

/** `writable` are real paths. What it says on stderr may hold the secret, and is shown to nobody. */
export function askHelper(
  { program, args }: Extract<SecretSource, { kind: 'exec' }>,
  env: Variables,
  writable: readonly string[],
): HelperAnswer {
  const failed = (why: string, hint?: string): HelperAnswer => ({
    ...{ kind: 'failed', why },
    ...(hint === undefined ? {} : { hint }),
  });
  const PATH = (env.PATH ?? '')
    .split(':')
    .filter((folder) => isAbsolute(folder) && !passes(folder, writable));
  const named = program.includes('/');
  const path = (named ? [program] : PATH.map((folder) => join(folder, program))).find(isProgram);
  if (path === undefined) return failed('does not exist', 'write its whole path');
  if (passes(path, writable)) return failed(IN_REACH, 'keep it outside');
  const { status, signal, stdout, error } = spawnSync(path, args, {
    cwd: '/',
    env: { ...outward(env, writable), PATH: PATH.join(':') },
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: HELPER_MS,
    killSignal: 'SIGKILL',
    maxBuffer: MOST_BYTES,
    encoding: 'utf8',
  });
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ETIMEDOUT') return failed(`did not answer within ${HELPER_MS / 1000} s`);
  if (error !== undefined) return failed(`cannot be asked: ${error.message}`);
  if (status !== 0) {
    return failed(signal === null ? `ended with ${status}` : `was ended by ${signal}`);
  }
  const text = stdout.replace(/\r?\n$/, '');
  return text.includes('\n') ? failed('said more than one line') : { kind: 'said', text };
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return isAbsolute(path) && statSync(path).isFile();
  } catch {
    return false; // not here
  }
}

/** Without what names code that an agent can write, as PYTHONPATH or NODE_OPTIONS may. A home is needed
 * to know whose secrets they are. */
function outward(env: Variables, writable: readonly string[]): Variables {
  const inward = (value: string): boolean =>
    PARTED.flatMap((by) => value.split(by)).some((part) => {
      const plain = part.replace(QUOTES, '');
      // A path may stand behind an option, with nothing between.
      return [...plain.matchAll(/\//g)].some(({ index }) => passes(plain.slice(index), writable));
    });
  const kept = Object.entries(env).filter(
    ([name, value]) => name === 'HOME' || !inward(value ?? ''),
  );
  return Object.fromEntries(kept);
}

/** Whether what is writable is on the way to a path, with every link on it, or at its end. */
function passes(path: string, writable: readonly string[]): boolean {
  const left = path.split(sep);
  let at = '/';
  for (let links = 0; left.length > 0; ) {
    const name = left.shift() as string;
    // `join` takes a name away for `..`, and links before it have been followed.
    at = join(at, name);
    if (writable.some((folder) => at === folder || at.startsWith(folder + sep))) return true;
    const target = targetOf(at);
    if (target === undefined) continue;
    links += 1;
    if (links > MOST_LINKS) return true;
    at = isAbsolute(target) ? '/' : dirname(at);
    left.unshift(...target.split(sep));
  }
  return false;
}

/** Of a link. */
function targetOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined; // no link, or nothing there
  }
}
