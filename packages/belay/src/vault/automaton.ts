// Finds many needles in bytes that come in parts, in one pass and in time that is linear in the bytes,
// whatever needles and bytes are (Aho and Corasick 1975): a state is the longest end of what was read that
// some needle begins with. Needles lie in sorted order and share their beginnings, so that nearly every
// state has one successor, the next one; only where two needles part stands a branch. Takes 10 bytes
// for each byte of the needles, and time linear in them.

export interface Needle {
  /** Of the credential. */
  readonly name: string;
  /** At least 8. */
  readonly bytes: Buffer;
}

export interface Automaton {
  /** Of the needles without those that repeat another one, in bytes. */
  readonly size: number;
  /**
   * The state after `bytes` from an index on; the first state is 0. `onEnd` hears of the longest needle
   * that ends at an index, in the order of the indices.
   */
  read(state: number, bytes: Buffer, from: number, onEnd: OnEnd): number;
  /** How many of the bytes that were read last could be the beginning of a needle. */
  waits(state: number): number;
}

export type OnEnd = (needle: Needle, end: number) => void;

/** In `spelled`, beside the byte that leads to a state. */
const FIRST = 0x100;
const BRANCHES = 0x200;
const NEXT = 0x1ff;

/** States of one needle that follow each other; its beginning is shared with an earlier one. */
interface Stretch {
  readonly first: number;
  readonly parent: number;
  /** Of its first state. */
  readonly depth: number;
  readonly length: number;
}

export function createAutomaton(given: readonly Needle[]): Automaton {
  const needles = [...given]
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .filter(({ bytes }, i, all) => i === 0 || !bytes.equals(all[i - 1]?.bytes as Buffer));
  const size = needles.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const deepest = needles.reduce((most, { bytes }) => Math.max(most, bytes.length), 0);
  const spelled = new Uint16Array(size + 2).fill(FIRST);
  const fallback = new Uint32Array(size + 1);
  /** One more than the index of the longest needle that ends there. */
  const ends = new Uint32Array(size + 1);
  const roots = new Uint32Array(256);
  const branches = new Map<number, number>();
  const stretches: Stretch[] = [];

  const path = new Uint32Array(deepest + 1);
  let states = 1;
  for (const [i, { bytes }] of needles.entries()) {
    const shared = i === 0 ? 0 : sharedLength(needles[i - 1]?.bytes as Buffer, bytes);
    const parent = path[shared] as number;
    const byte = bytes[shared] as number;
    const length = bytes.length - shared;
    stretches.push({ first: states, parent, depth: shared + 1, length });
    if (parent === 0) roots[byte] = states;
    else {
      branches.set(parent * 256 + byte, states);
      (spelled[parent] as number) |= BRANCHES;
    }
    spelled[states] = byte | FIRST;
    path[shared + 1] = states;
    for (let at = shared + 1; at < bytes.length; at++) {
      spelled[states + at - shared] = bytes[at] as number;
      path[at + 1] = states + at - shared;
    }
    states += length;
    ends[states - 1] = i + 1;
  }

  /** Zero for none. */
  const after = (state: number, byte: number): number => {
    if (state === 0) return roots[byte] as number;
    if (((spelled[state + 1] as number) & NEXT) === byte) return state + 1;
    if (((spelled[state] as number) & BRANCHES) === 0) return 0;
    return branches.get(state * 256 + byte) ?? 0;
  };

  const leadsOn = (state: number): boolean =>
    ((spelled[state + 1] as number) & FIRST) === 0 || ((spelled[state] as number) & BRANCHES) !== 0;

  // By depth: a fallback is less deep than its state.
  const waiting = [...stretches].sort((a, b) => b.depth - a.depth);
  let active: Stretch[] = [];
  for (let depth = 1; depth <= deepest; depth++) {
    while (waiting.at(-1)?.depth === depth) active.push(waiting.pop() as Stretch);
    let over = false;
    for (const { first, parent, depth: begin, length } of active) {
      const state = first + depth - begin;
      over ||= depth - begin + 1 === length;
      if (depth > 1) {
        const byte = (spelled[state] as number) & 0xff;
        let from = fallback[depth === begin ? parent : state - 1] as number;
        while (from !== 0 && after(from, byte) === 0) from = fallback[from] as number;
        fallback[state] = after(from, byte);
      }
      if (ends[state] === 0) ends[state] = ends[fallback[state] as number] as number;
    }
    if (over) active = active.filter(({ depth: begin, length }) => begin + length - 1 > depth);
  }

  return {
    size,
    read(begin, bytes, from, onEnd) {
      let state = begin;
      for (let at = from; at < bytes.length; at++) {
        const byte = bytes[at] as number;
        let next = after(state, byte);
        while (next === 0 && state !== 0) {
          state = fallback[state] as number;
          next = after(state, byte);
        }
        state = next;
        const end = ends[state] as number;
        if (end !== 0) onEnd(needles[end - 1] as Needle, at + 1);
      }
      return state;
    },
    waits(reached) {
      // What is complete, and the beginning of nothing longer, does not wait.
      let state = reached;
      while (state !== 0 && !leadsOn(state)) state = fallback[state] as number;
      if (state === 0) return 0;
      let low = 0;
      for (let high = stretches.length; high - low > 1; ) {
        const middle = (low + high) >> 1;
        if ((stretches[middle] as Stretch).first <= state) low = middle;
        else high = middle;
      }
      const { first, depth } = stretches[low] as Stretch;
      return depth + state - first;
    },
  };
}

function sharedLength(a: Buffer, b: Buffer): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}
