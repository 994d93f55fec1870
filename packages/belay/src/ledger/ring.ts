// The way from the main thread to the writer thread: a ring of payloads in shared memory, and a few
// words beside it. One producer, one consumer, no lock. The producer publishes once a turn, so that
// what was appended together is written together; the consumer answers with the count of payloads
// that are durable. The head and tail count bytes and wrap at 2^32; the size is a power of two.

const HEAD = 0; // bytes put in; written by main
const TAIL = 1; // bytes taken out; written by the writer
const WAKE = 2; // grows when the writer has something to do
const SIGNAL = 3; // grows when main has something to look at
const DURABLE = 4; // payloads durable since start, modulo 2^32
const STATE = 5;
const WANT_SPACE = 6; // main waits for room
const REASON_BYTES = 7;
const WORDS_BYTES = 64;
const REASON_ROOM_BYTES = 960;
const DATA_AT = WORDS_BYTES + REASON_ROOM_BYTES;
const LENGTH_BYTES = 4;

const WRITING = 0;
const CLOSING = 1;
const FAILED = 2;

export const MIN_RING_BYTES = 1 << 17;

export type WriterState =
  | { readonly kind: 'writing' }
  | { readonly kind: 'closing' }
  | { readonly kind: 'failed'; readonly reason: string };

/** The main thread's end. */
export interface RingProducer {
  readonly shared: SharedArrayBuffer;
  /** False when there is no room; then the next signal says when to try again. */
  put(payload: Uint8Array): boolean;
  /** Shows the writer what was put. */
  publish(): void;
  /** Asks the writer to finish what is in the ring and leave. */
  close(): void;
  /** Payloads durable since start, modulo 2^32. */
  durable(): number;
  state(): WriterState;
  /** Fails the ring from this side, when the writer is gone. Keeps an earlier reason. */
  fail(reason: string): void;
  signals(): number;
  /** Resolves when the count of signals is no longer `seen`. */
  signalled(seen: number): Promise<void>;
}

/** The writer thread's end. */
export interface RingConsumer {
  /** The next payload's length, or 0 when the ring is empty. */
  peek(): number;
  /** Copies the next payload out and frees its room. */
  take(target: Uint8Array, offset: number, lengthBytes: number): void;
  /** Tells a producer that waits for room that there is some. */
  freed(): void;
  durable(count: number): void;
  fail(reason: string): void;
  closing(): boolean;
  wakes(): number;
  /** Blocks until the count of wakes is no longer `seen`. */
  sleep(seen: number): void;
}

export function createRing(ringBytes: number): RingProducer {
  const shared = new SharedArrayBuffer(DATA_AT + ringBytes);
  const words = new Int32Array(shared, 0, WORDS_BYTES / 4);
  const data = new Uint8Array(shared, DATA_AT);
  const lengthBytes = new Uint8Array(LENGTH_BYTES);
  const lengthView = new DataView(lengthBytes.buffer);
  let head = 0;
  let published = 0;
  const wake = (): void => {
    Atomics.add(words, WAKE, 1);
    Atomics.notify(words, WAKE);
  };
  const roomBytes = (): number => ringBytes - ((head - Atomics.load(words, TAIL)) >>> 0);
  return {
    shared,
    put(payload) {
      const needed = LENGTH_BYTES + payload.length;
      if (roomBytes() < needed) {
        Atomics.store(words, WANT_SPACE, 1);
        // The writer may have freed room before it could see the wish.
        if (roomBytes() < needed) return false;
      }
      lengthView.setUint32(0, payload.length);
      copyIn(data, head, lengthBytes);
      copyIn(data, head + LENGTH_BYTES, payload);
      head = (head + needed) >>> 0;
      return true;
    },
    publish() {
      if (published === head) return;
      published = head;
      Atomics.store(words, HEAD, head | 0);
      wake();
    },
    close() {
      Atomics.compareExchange(words, STATE, WRITING, CLOSING);
      wake();
    },
    durable: () => Atomics.load(words, DURABLE) >>> 0,
    state() {
      switch (Atomics.load(words, STATE)) {
        case WRITING:
          return { kind: 'writing' };
        case CLOSING:
          return { kind: 'closing' };
        default:
          return { kind: 'failed', reason: readReason(shared, words) };
      }
    },
    fail: (reason) => failRing(shared, words, reason),
    signals: () => Atomics.load(words, SIGNAL),
    async signalled(seen) {
      const wait = Atomics.waitAsync(words, SIGNAL, seen);
      if (wait.async) await wait.value;
    },
  };
}

export function attachRing(shared: SharedArrayBuffer): RingConsumer {
  const words = new Int32Array(shared, 0, WORDS_BYTES / 4);
  const data = new Uint8Array(shared, DATA_AT);
  const lengthBytes = new Uint8Array(LENGTH_BYTES);
  const lengthView = new DataView(lengthBytes.buffer);
  let tail = Atomics.load(words, TAIL) >>> 0;
  return {
    peek() {
      if (Atomics.load(words, HEAD) >>> 0 === tail) return 0;
      copyOut(data, tail, lengthBytes, 0, LENGTH_BYTES);
      return lengthView.getUint32(0);
    },
    take(target, offset, length) {
      copyOut(data, tail + LENGTH_BYTES, target, offset, length);
      tail = (tail + LENGTH_BYTES + length) >>> 0;
      Atomics.store(words, TAIL, tail | 0);
    },
    freed() {
      if (Atomics.exchange(words, WANT_SPACE, 0) === 1) signal(words);
    },
    durable(count) {
      Atomics.store(words, DURABLE, count | 0);
      signal(words);
    },
    fail: (reason) => failRing(shared, words, reason),
    closing: () => Atomics.load(words, STATE) === CLOSING,
    wakes: () => Atomics.load(words, WAKE),
    sleep(seen) {
      Atomics.wait(words, WAKE, seen);
    },
  };
}

function signal(words: Int32Array): void {
  Atomics.add(words, SIGNAL, 1);
  Atomics.notify(words, SIGNAL);
}

function failRing(shared: SharedArrayBuffer, words: Int32Array, reason: string): void {
  if (Atomics.load(words, STATE) !== FAILED) {
    const bytes = new TextEncoder().encode(reason).subarray(0, REASON_ROOM_BYTES);
    new Uint8Array(shared, WORDS_BYTES).set(bytes);
    Atomics.store(words, REASON_BYTES, bytes.length);
    Atomics.store(words, STATE, FAILED);
  }
  signal(words);
}

function readReason(shared: SharedArrayBuffer, words: Int32Array): string {
  const bytes = new Uint8Array(shared, WORDS_BYTES, Atomics.load(words, REASON_BYTES));
  return new TextDecoder().decode(bytes.slice());
}

function copyIn(data: Uint8Array, position: number, source: Uint8Array): void {
  const at = position & (data.length - 1);
  const first = Math.min(source.length, data.length - at);
  if (first === source.length) {
    data.set(source, at);
  } else {
    data.set(source.subarray(0, first), at);
    data.set(source.subarray(first), 0);
  }
}

function copyOut(
  data: Uint8Array,
  position: number,
  target: Uint8Array,
  offset: number,
  lengthBytes: number,
): void {
  const at = position & (data.length - 1);
  const first = Math.min(lengthBytes, data.length - at);
  target.set(data.subarray(at, at + first), offset);
  if (first < lengthBytes) target.set(data.subarray(0, lengthBytes - first), offset + first);
}
