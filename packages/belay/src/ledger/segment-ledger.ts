// The ledger of one daemon, in segment files. Gives each entry its place on this thread, in the order
// of the calls, and hands its bytes to the writer thread; an append resolves when the writer has it
// on the disk. Once anything has failed, nothing is acknowledged any more (I2, I7).
// Trusts that no other process writes to the directory: the daemon holds the home's lock.

import { Worker } from 'node:worker_threads';
import { ENTRY_VERSION, type Entry, type EntryBody } from '../core/entry.ts';
import { decodeEntry, encodeEntry } from '../core/entry-bytes.ts';
import { asBelayError, BelayError, reasonOf } from '../core/errors.ts';
import { MAX_PAYLOAD_BYTES } from '../core/frame.ts';
import type { History } from '../core/history.ts';
import { type Clock, type Random, uuid7 } from '../core/ids.ts';
import type { Ledger, LedgerHealth, Receipt } from './ledger.ts';
import { createSegmentReader, type SegmentReader } from './read.ts';
import type { Recovered } from './recover.ts';
import { createRing, type RingProducer } from './ring.ts';
import type { WriterSettings } from './writer-thread.ts';

export interface SegmentLedgerOptions {
  readonly segmentsDir: string;
  readonly segmentBytes: number;
  readonly ringBytes: number;
  readonly clock: Clock;
  readonly random: Random;
  /** The module that the writer thread reaches the disk through. */
  readonly fileOps: URL;
}

interface Waiting {
  readonly receipt: Receipt;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: BelayError) => void;
}

/** When as many entries wait for room in the ring, nothing new is begun. */
const MOST_BEFORE_INTENT = 1024;
/** What has happened is taken even then: it can be no more than is under way, unless the disk is gone. */
const MAX_OVERFLOW_BYTES = 64 << 20;
/** How long an entry that nobody waits for may wait for company. */
const SOON_MS = 10;
const CLOSE_LIMIT_MS = 10_000;

export class SegmentLedger implements Ledger, AsyncDisposable {
  readonly #history: History;
  readonly #reader: SegmentReader;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #ring: RingProducer;
  readonly #writer: Worker;
  readonly #writerEnded: Promise<void>;
  #durable: number;
  /** The writer's count at the last look. */
  #counted = 0;
  #waiting: Waiting[] = [];
  /** Payloads with a place and no room in the ring yet, in order. */
  #overflow: Uint8Array[] = [];
  #overflowBytes = 0;
  #publishing = false;
  #soon: NodeJS.Timeout | undefined;
  #closing = false;
  #ended = false;
  #failed: string | undefined;

  constructor(recovered: Recovered, options: SegmentLedgerOptions) {
    this.#history = recovered.history;
    this.#reader = createSegmentReader(options.segmentsDir, recovered.firstIndexes);
    this.#clock = options.clock;
    this.#random = options.random;
    this.#durable = recovered.history.size();
    this.#ring = createRing(options.ringBytes);
    const settings: WriterSettings = {
      ring: this.#ring.shared,
      segmentsDir: options.segmentsDir,
      segmentBytes: options.segmentBytes,
      segment: recovered.segment,
      offset: recovered.offset,
      nextIndex: recovered.history.size(),
      fileOps: options.fileOps.href,
    };
    // No environment and no flags of ours: the thread needs neither.
    this.#writer = new Worker(siblingModule('writer-thread'), {
      workerData: settings,
      name: 'ledger',
      env: {},
      execArgv: [],
    });
    this.#writer.on('error', (error) => this.#ring.fail(`the writer died: ${reasonOf(error)}`));
    this.#writerEnded = new Promise((resolve) => {
      this.#writer.on('exit', () => {
        if (!this.#closing) this.#ring.fail('the writer ended on its own');
        resolve();
      });
    });
    void this.#watch();
  }

  append(body: EntryBody, when: 'now' | 'soon' = 'now'): Promise<Receipt> {
    let entry: Entry;
    let payload: Uint8Array;
    try {
      this.#refuseUnlessOpen(body);
      entry = this.#place(body);
      payload = encode(entry);
    } catch (error) {
      return Promise.reject(asBelayError('ERR_LEDGER', `\`${body.type}\` refused`, error));
    }
    // From here on the place is taken: whatever fails now fails the ledger.
    this.#history.apply(entry);
    const { index, seq } = entry;
    const receipt: Receipt = seq === undefined ? { index } : { index, seq };
    return new Promise((resolve, reject) => {
      this.#waiting.push({ receipt, resolve, reject });
      if (this.#overflow.length > 0 || !this.#ring.put(payload)) this.#wait(payload);
      if (when === 'now') this.#publishThisTurn();
      else this.#soon ??= setTimeout(() => this.#publish(), SOON_MS).unref();
    });
  }

  health(): LedgerHealth {
    if (this.#failed === undefined) return { kind: 'writing' };
    return { kind: 'failed', reason: this.#failed };
  }

  size(): number {
    return this.#durable;
  }

  async *read(fromIndex = 0): AsyncGenerator<Entry> {
    for await (const { index, bytes } of this.#reader.payloads(fromIndex, this.#durable)) {
      const read = decodeEntry(bytes);
      if (read.kind !== 'entry' || read.entry.index !== index) {
        throw new BelayError('ERR_LEDGER_DAMAGED', `what stands at ${index} is not that entry`);
      }
      yield read.entry;
    }
  }

  /** Waits until all that was appended is durable, and ends the writer. */
  async [Symbol.asyncDispose](): Promise<void> {
    const first = !this.#closing;
    this.#closing = true;
    if (first) this.#closeWhenDrained();
    const limit = Promise.withResolvers<void>();
    const timer = setTimeout(limit.resolve, CLOSE_LIMIT_MS);
    await Promise.race([this.#writerEnded, limit.promise]);
    clearTimeout(timer);
    this.#acknowledge();
    // Only a disk that answers no more gets here with anything waiting.
    if (this.#waiting.length > 0) this.#fail('it was closed before the disk answered');
    this.#ended = true;
    this.#ring.fail('closed');
    void this.#writer.terminate();
  }

  #refuseUnlessOpen({ type }: EntryBody): void {
    if (this.#failed !== undefined) throw failure(this.#failed);
    if (this.#closing) throw new BelayError('ERR_LEDGER', 'the ledger is closed');
    if (type !== 'intent' || this.#overflow.length < MOST_BEFORE_INTENT) return;
    throw new BelayError('ERR_LEDGER', `${this.#waiting.length} entries already wait for the disk`);
  }

  #wait(payload: Uint8Array): void {
    this.#overflow.push(payload);
    this.#overflowBytes += payload.length;
    if (this.#overflowBytes <= MAX_OVERFLOW_BYTES) return;
    // An entry that is dropped in silence would be a lie: better none at all from here on.
    const reason = `${this.#waiting.length} entries wait for the disk`;
    this.#ring.fail(reason);
    this.#fail(reason);
  }

  #place(body: EntryBody): Entry {
    // A clock that was set back must not put an entry before its predecessor.
    const ts = Math.max(Math.trunc(this.#clock()), this.#history.lastTs());
    const id = uuid7(ts, this.#random);
    const index = this.#history.size();
    if (body.run === undefined) return { ...body, v: ENTRY_VERSION, id, index, ts } as Entry;
    const seq = this.#history.nextSeq(body.run);
    return { ...body, v: ENTRY_VERSION, id, index, ts, seq } as Entry;
  }

  /** Once a turn, so that what is appended together is written together. */
  #publishThisTurn(): void {
    if (this.#publishing) return;
    this.#publishing = true;
    setImmediate(() => {
      this.#publishing = false;
      this.#publish();
    });
  }

  #publish(): void {
    clearTimeout(this.#soon);
    this.#soon = undefined;
    this.#ring.publish();
  }

  async #watch(): Promise<void> {
    for (;;) {
      const seen = this.#ring.signals();
      // The state before the count: a count read after a failure is the last one.
      const state = this.#ring.state();
      this.#acknowledge();
      if (state.kind === 'failed') return this.#fail(state.reason);
      this.#refill();
      if (this.#closing) this.#closeWhenDrained();
      await this.#ring.signalled(seen);
      if (this.#ended) return;
    }
  }

  #acknowledge(): void {
    const counted = this.#ring.durable();
    const fresh = (counted - this.#counted) >>> 0;
    if (fresh === 0) return;
    this.#counted = counted;
    this.#durable += fresh;
    for (const { receipt, resolve } of this.#waiting.splice(0, fresh)) resolve(receipt);
  }

  #refill(): void {
    let moved = 0;
    while (moved < this.#overflow.length && this.#ring.put(this.#overflow[moved] as Uint8Array)) {
      moved++;
    }
    if (moved === 0) return;
    for (const { length } of this.#overflow.splice(0, moved)) this.#overflowBytes -= length;
    this.#publish();
  }

  #closeWhenDrained(): void {
    if (this.#overflow.length > 0) return;
    this.#publish();
    this.#ring.close();
  }

  #fail(reason: string): void {
    this.#failed ??= reason;
    this.#overflow = [];
    for (const { reject } of this.#waiting.splice(0)) reject(failure(this.#failed));
  }
}

function encode(entry: Entry): Uint8Array {
  const payload = encodeEntry(entry);
  if (payload.length <= MAX_PAYLOAD_BYTES) return payload;
  throw new BelayError(
    'ERR_LEDGER',
    `\`${entry.type}\` refused: ${payload.length} bytes, at most ${MAX_PAYLOAD_BYTES} go into an entry`,
  );
}

function failure(reason: string): BelayError {
  return new BelayError('ERR_LEDGER', `the ledger has failed: ${reason}`, {
    hint: 'everything is denied until the cause is removed and the daemon restarted',
  });
}

/** A module beside this one, as source or built. */
export function siblingModule(name: string): URL {
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  return new URL(`./${name}${extension}`, import.meta.url);
}
