// Chances that come again: the same seed gives the same cases on every machine.

export interface Chance {
  /** A whole number from 0 to below `end`. */
  below(end: number): number;
  /** Whether something of this probability happens. */
  happens(probability: number): boolean;
  of<T>(choices: readonly T[]): T;
  /** So many random bytes. */
  bytes(count: number): Buffer;
}

/** PCG's output function over a 32-bit linear congruence; `seed` and `stream` are any whole numbers. */
export function chance(seed: number, stream = 0): Chance {
  let state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b)) >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 747_796_405) + 2_891_336_453) >>> 0;
    const word = Math.imul((state >>> ((state >>> 28) + 4)) ^ state, 277_803_737) >>> 0;
    return ((word >>> 22) ^ word) >>> 0;
  };
  next();
  const below = (end: number): number => Math.floor((next() / 2 ** 32) * end);
  return {
    below,
    happens: (probability) => next() / 2 ** 32 < probability,
    of: (choices) => choices[below(choices.length)] as (typeof choices)[number],
    bytes: (count) => Buffer.from(Array.from({ length: count }, () => below(256))),
  };
}
