// Proofs take turns. Of one run one pack is read at a time, because each takes memory, and few may wait
// for it; of all runs together one slice of one pack is read in a turn of the loop, because the guard
// counts the whole turn. Who leaves, leaves the line with all that it held.

import { setImmediate as nextTurn } from 'node:timers/promises';

const MOST_WAITING = 16;

/** The packs of one run. */
export interface ProofLine {
  reading: boolean;
  readonly waiting: Set<() => void>;
}

export function createProofLine(): ProofLine {
  return { reading: false, waiting: new Set() };
}

/** Resolves to undefined when too many wait; rejects with the reason of `signal`. */
export async function inLine<T>(
  line: ProofLine,
  signal: AbortSignal,
  read: () => Promise<T>,
): Promise<T | undefined> {
  if (line.reading) {
    if (line.waiting.size >= MOST_WAITING) return undefined;
    await placeIn(line, signal);
  }
  line.reading = true;
  try {
    signal.throwIfAborted();
    return await read();
  } finally {
    const [first] = line.waiting;
    if (first === undefined) line.reading = false;
    else first();
  }
}

function placeIn({ waiting }: ProofLine, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = (): void => {
      waiting.delete(enter);
      reject(signal.reason);
    };
    const enter = (): void => {
      waiting.delete(enter);
      signal.removeEventListener('abort', leave);
      resolve();
    };
    waiting.add(enter);
    signal.addEventListener('abort', leave, { once: true });
  });
}

/** Each promise that it gives resolves in a turn of the loop that no other one has. */
export function createSlices(): () => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return () => {
    last = last.then(() => nextTurn());
    return last;
  };
}
