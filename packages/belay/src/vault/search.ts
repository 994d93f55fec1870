// What a run looks for in answers: the needles of all its credentials, in automata of which each is more
// than twice the next one or of a size that is enough, so that a needle is built in anew a logarithmic
// number of times however many are added. Where bytes are read from the start, the runtime's own search
// for the beginnings of the needles comes first: it is faster while they are few, and linear (Boyer and
// Moore, up to 250 bytes).

import { type Automaton, createAutomaton, type Needle } from './automaton.ts';

export interface Search {
  /** Another array whenever the needles are others. */
  readonly parts: readonly Part[];
  /** Of the needles, in bytes. */
  readonly size: number;
  add(needles: readonly Needle[]): void;
  /** Takes out those of credentials. */
  remove(names: ReadonlySet<string>): void;
  clear(): void;
}

export interface Part extends Automaton {
  /** Also those of equal bytes: either may be taken out. */
  readonly needles: readonly Needle[];
}

/** No needle is shorter. */
export const SHORTEST = 8;
/** A part takes no more when it is put together with another one: one is built in a turn of the loop. */
const LARGEST = 256 * 1024;
/** Heads: with more of them, or fewer bytes for each, the automaton alone is faster. */
const MOST_HEADS = 32;
const FEWEST_BYTES = 64;
/** Longer ones are found faster, and take longer to build. */
const LONGEST_HEAD = 64;

export function createSearch(): Search {
  let parts: readonly Part[] = [];
  return {
    get parts() {
      return parts;
    },
    get size() {
      return parts.reduce((sum, { size }) => sum + size, 0);
    },
    add(needles) {
      if (needles.length === 0) return;
      const others = [...parts];
      let all = needles;
      let size = needles.reduce((sum, { bytes }) => sum + bytes.length, 0);
      for (let last = others.at(-1); last !== undefined; last = others.at(-1)) {
        if (last.size > 2 * size || last.size + size > LARGEST) break;
        all = [...last.needles, ...all];
        size += last.size;
        others.pop();
      }
      parts = [...others, partOf(all)];
    },
    remove(names) {
      parts = parts.flatMap((part) => {
        const left = part.needles.filter((one) => !names.has(one.name));
        if (left.length === part.needles.length) return part;
        return left.length === 0 ? [] : partOf(left);
      });
    },
    clear() {
      parts = [];
    },
  };
}

function partOf(needles: readonly Needle[]): Part {
  const automaton = createAutomaton(needles);
  const { size, waits } = automaton;
  const texts = new Set(needles.map(({ bytes }) => bytes.toString('latin1', 0, LONGEST_HEAD)));
  const heads =
    texts.size > MOST_HEADS ? undefined : [...texts].map((text) => Buffer.from(text, 'latin1'));
  return {
    needles,
    size,
    waits,
    read(state, bytes, from, onEnd) {
      const few = heads !== undefined && bytes.length - from >= heads.length * FEWEST_BYTES;
      if (!few || state !== 0) {
        return automaton.read(state, bytes, from, onEnd);
      }
      // The last ones could be the beginning of a head.
      let first = bytes.length - LONGEST_HEAD + 1;
      for (const head of heads) {
        const at = bytes.indexOf(head, from);
        if (at >= 0 && at < first) first = at;
      }
      return automaton.read(0, bytes, first, onEnd);
    },
  };
}
