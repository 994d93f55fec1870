// Entries for the control API: what is in the ledger, then, for those who follow, what comes.

import type { Entry } from '../core/entry.ts';
import type { Ledger } from '../ledger/ledger.ts';

/** An entry that nobody announced is seen after so long. */
const LOOK_MS = 250;

export interface EntryFeed {
  /** Something was appended. */
  stir(): void;
  read(from: number, follow: boolean, signal: AbortSignal): AsyncGenerator<Entry>;
}

export function createEntryFeed(ledger: Ledger): EntryFeed {
  const readers = new Set<() => void>();
  return {
    stir() {
      for (const wake of readers) wake();
    },
    async *read(from, follow, signal) {
      let next = from;
      let wake = (): void => {};
      const stir = (): void => wake();
      readers.add(stir);
      signal.addEventListener('abort', stir, { once: true });
      try {
        while (!signal.aborted) {
          if (next < ledger.size()) {
            for await (const entry of ledger.read(next)) {
              yield entry;
              next = entry.index + 1;
            }
          } else if (!follow) return;
          else {
            await new Promise<void>((resolve) => {
              const timer = setTimeout(resolve, LOOK_MS).unref();
              wake = () => {
                clearTimeout(timer);
                resolve();
              };
            });
          }
        }
      } finally {
        readers.delete(stir);
        signal.removeEventListener('abort', stir);
      }
    },
  };
}
