// What the rest of Belay sees of the ledger: append, which resolves when the entry is durable, and
// read. Every implementation obeys one rule (I2): an append that resolved survives any crash, and
// after the first failed write nothing is ever acknowledged again.

import type { Entry, EntryBody } from '../core/entry.ts';

/** An entry's place, known once it is durable. */
export interface Receipt {
  readonly index: number;
  readonly seq?: number;
}

export type LedgerHealth =
  | { readonly kind: 'writing' }
  /** The first failed write or sync: state unknown, closed for good until restart (ERR_LEDGER). */
  | { readonly kind: 'failed'; readonly reason: string };

export interface Ledger {
  /**
   * Resolves when the entry is on the disk. Assigns id, index, ts and, for an entry with a `run`,
   * seq, synchronously and in call order. Rejects with ERR_LEDGER once the ledger has failed, and an
   * intent also while too much waits for the disk: what has happened is taken or fails the ledger.
   * What nobody waits for may be written `soon`: with the next entry, or within 20 ms.
   */
  append(body: EntryBody, when?: 'now' | 'soon'): Promise<Receipt>;
  health(): LedgerHealth;
  /** Entries from `fromIndex` on, up to what is durable at the call, streamed from disk. */
  read(fromIndex?: number): AsyncIterable<Entry>;
  /** The number of durable entries. */
  size(): number;
}
