// A run of the agent that shows when it runs (inside/beats.mjs), and the processes around a run.

import { copyFileSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, lines, NODE, type Place, type Started } from './place.ts';

export interface BeatingRun extends Started {
  readonly run: string;
  /** Times of its beats so far. */
  beats(): readonly number[];
  /** What came of its calls so far. */
  calls(): readonly { readonly atMs: number; readonly what: string }[];
}

let made = 0;

/** Resolves when the agent is at work. */
export async function startBeating(
  place: Place,
  flags: readonly string[] = [],
  url?: string,
): Promise<BeatingRun> {
  made += 1;
  copyFileSync(join(import.meta.dirname, 'inside/beats.mjs'), join(place.workdir, 'beats.mjs'));
  const file = join(place.workdir, `beats-${made}.txt`);
  const before = new Set(
    await place.status().then(
      ({ runs }) => runs.map(({ run }) => run),
      () => [],
    ),
  );
  const script = join(place.workdir, 'beats.mjs');
  const started = place.start(flags, [NODE, script, file, ...(url === undefined ? [] : [url])]);
  const words = (kind: string): readonly (readonly string[])[] =>
    lines(file)
      .map((line) => line.split(' '))
      .filter(([first]) => first === kind);
  const beats = (): readonly number[] => words('beat').map(([, at]) => Number(at));
  const calls = () => words('call').map(([, at, what = '']) => ({ atMs: Number(at), what }));
  let over = false;
  void started.ended.then(() => {
    over = true;
  });
  await eventually(
    'beat of the agent',
    () => {
      if (over) throw new Error(`the run ended: ${started.stderr()}`);
      return beats().length > 3 || undefined;
    },
    20_000,
  );
  const { runs } = await place.status();
  const run = runs.find((row) => !before.has(row.run))?.run;
  if (run === undefined) throw new Error('the run is not open');
  return { ...started, run, beats, calls };
}

/** The processes whose arguments hold a text. */
export function processesWith(text: string): readonly number[] {
  return pids().filter((pid) => {
    const words = quietly(() => readFileSync(`/proc/${pid}/cmdline`, 'latin1')) ?? '';
    return words.replaceAll('\0', ' ').includes(text);
  });
}

export function guardOf({ session }: Place): number {
  const [pid, ...more] = processesWith(`${join(session.home, 'run/guard.sock')}`).filter((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('sandbox/guard.js\0'),
  );
  if (pid === undefined || more.length > 0) throw new Error('there is not one guard');
  return pid;
}

/** The bridge of a run: it works in the run's folder. */
export function bridgeOf({ session }: Place, run: string): number | undefined {
  const folder = join(session.home, 'run', run);
  return processesWith('sandbox/bridge.js').find(
    (pid) => quietly(() => readlinkSync(`/proc/${pid}/cwd`))?.startsWith(folder) === true,
  );
}

/** The processes that have a folder below this home as their working folder: all bridges. */
export function processesBelow(home: string): readonly number[] {
  return pids().filter(
    (pid) => quietly(() => readlinkSync(`/proc/${pid}/cwd`))?.startsWith(`${home}/`) === true,
  );
}

function pids(): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    // The process ended, or is another user's.
    return undefined;
  }
}
