// What every fuzzer here shares: inputs from a kept corpus (corpus/NAME, one file each), mutated by a
// seed, until the time is over. A judge says what is wrong with an input, or of which sort it was; an
// input of a new sort is mutated further. What is found wrong is kept in the corpus, so that every later
// run begins with it, and its seed and number are told. Case N of a seed depends on nothing but the
// corpus, the seed and the cases before it of the same lane.
// A parser more is a NAME-fuzz.ts with its judge, and corpus/NAME.

import { createHash } from 'node:crypto';
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { type Chance, chance } from './random.ts';

/** What became of one input. */
export type Judged = { readonly sort: string } | { readonly problem: string };
export type Judge = (input: Buffer, draw: Chance) => Judged | Promise<Judged>;

export interface Subject {
  /** Of its folder in corpus/. */
  readonly name: string;
  /** Inputs that are made anew each time, beside the corpus. */
  readonly made?: readonly Buffer[];
  /** What may be put in anywhere. */
  readonly words: readonly (string | Buffer)[];
  /** Makes another input of one, where changed bytes alone lead nowhere; undefined: they will do. */
  readonly remake?: (input: Buffer, draw: Chance) => Buffer | undefined;
  /** One for each lane; lanes run side by side. */
  readonly judges: readonly Judge[];
}

export interface FuzzFigures {
  readonly cases: number;
  readonly seconds: number;
  /** How many inputs were of each sort. */
  readonly sorts: Readonly<Record<string, number>>;
}

/** Of a proof at full size. */
export const FULL_SECONDS = 600;
const MOST_INPUT_BYTES = 32 * 1024;
const MOST_KEPT = 2_000;
const MOST_SORTS = 500;
const CORPUS = join(import.meta.dirname, 'corpus');

/** Throws with the first problem. */
export async function fuzz(
  { name, made = [], words, remake, judges }: Subject,
  { seconds, seed }: { readonly seconds: number; readonly seed: number },
): Promise<FuzzFigures> {
  const folder = join(CORPUS, name);
  const files = globSync('*', { cwd: folder }).sort();
  const corpus = [...files.map((file) => readFileSync(join(folder, file))), ...made];
  if (corpus.length === 0) throw new Error(`the corpus of \`${name}\` is empty`);
  const vocabulary = words.map((word) =>
    typeof word === 'string' ? Buffer.from(word, 'latin1') : word,
  );
  const sorts = new Map<string, number>();
  const startMs = performance.now();
  let cases = 0;
  let over = false;

  const found = (input: Buffer, what: string, problem: string): Error => {
    mkdirSync(folder, { recursive: true });
    const path = join(folder, createHash('sha256').update(input).digest('hex').slice(0, 12));
    writeFileSync(path, input);
    const kept = relative(process.cwd(), path);
    return new Error(`${name}: ${problem} (seed ${seed}, ${what}, kept as ${kept})`);
  };

  const lane = async (judge: Judge, number: number): Promise<void> => {
    const pool = [...corpus];
    for (let n = 0; !over; n++) {
      const draw = chance(seed, n * judges.length + number);
      const input =
        n < corpus.length
          ? pool[n]
          : (remake?.(draw.of(pool), draw) ?? vary(pool, vocabulary, draw)).subarray(
              0,
              MOST_INPUT_BYTES,
            );
      const judged = await judgedBy(judge, input as Buffer, draw);
      cases += 1;
      if ('problem' in judged) {
        throw found(input as Buffer, `lane ${number}, case ${n}`, judged.problem);
      }
      const before = sorts.get(judged.sort) ?? 0;
      if (before > 0 || sorts.size < MOST_SORTS) sorts.set(judged.sort, before + 1);
      if (before === 0 && n >= corpus.length && pool.length < MOST_KEPT) pool.push(input as Buffer);
      if (performance.now() - startMs > seconds * 1000) return;
      // A judge that never waits would keep everything else from running.
      if (n % 64 === 0) await new Promise(setImmediate);
    }
  };
  try {
    await Promise.all(judges.map(lane));
  } finally {
    over = true;
  }
  return {
    cases,
    seconds: Math.round((performance.now() - startMs) / 1000),
    sorts: Object.fromEntries([...sorts].sort(([, a], [, b]) => b - a).slice(0, 40)),
  };
}

/** That something threw is a problem of its input like any other. */
async function judgedBy(judge: Judge, input: Buffer, draw: Chance): Promise<Judged> {
  try {
    return await judge(input, draw);
  } catch (error) {
    return { problem: `threw ${error}` };
  }
}

/** One of the inputs, changed in one to six places. */
export function vary(pool: readonly Buffer[], words: readonly Buffer[], draw: Chance): Buffer {
  let bytes: Buffer = Buffer.from(draw.of(pool));
  for (let left = 1 + draw.below(draw.of([1, 3, 6])); left > 0; left--)
    bytes = change(bytes, pool, words, draw);
  return bytes;
}

function change(
  bytes: Buffer,
  pool: readonly Buffer[],
  words: readonly Buffer[],
  draw: Chance,
): Buffer {
  const at = draw.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + draw.below(draw.of([2, 8, 64])));
  const between = (...parts: readonly Buffer[]): Buffer =>
    Buffer.concat([bytes.subarray(0, at), ...parts]);
  switch (draw.below(10)) {
    case 0: // a bit
      return at < bytes.length
        ? between(Buffer.of((bytes[at] as number) ^ (1 << draw.below(8))), bytes.subarray(at + 1))
        : bytes;
    case 1: // a byte
      return between(Buffer.of(draw.below(256)), bytes.subarray(at + 1));
    case 2: // a number beside itself
      return at < bytes.length
        ? between(
            Buffer.of(((bytes[at] as number) + draw.of([1, -1, 2, -2])) & 255),
            bytes.subarray(at + 1),
          )
        : bytes;
    case 3: // some bytes more
      return between(draw.bytes(1 + draw.below(6)), bytes.subarray(at));
    case 4: // some less
      return between(bytes.subarray(end));
    case 5: // some twice
      return between(bytes.subarray(at, end), bytes.subarray(at));
    case 6: // the beginning alone
      return bytes.length > 4 ? bytes.subarray(0, at) : bytes;
    case 7: {
      // the end of another
      const other = draw.of(pool);
      return between(other.subarray(draw.below(other.length + 1)));
    }
    case 8: // a word
      return words.length > 0 ? between(draw.of(words), bytes.subarray(at)) : bytes;
    default: // a word in place of something
      return words.length > 0 ? between(draw.of(words), bytes.subarray(end)) : bytes;
  }
}
