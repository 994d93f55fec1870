// Takes the values of credentials out of what comes back: each byte of one becomes `*`, so that lengths
// and framing stay as the upstream made them. All of them are looked for in the bytes as they came,
// and each is found whole, also where it overlaps another one or arrives in parts: bytes that could be
// the beginning of one wait for those that decide it, and nothing else does. Linear in the bytes.

import type { ByteSource, Headers } from '../core/call.ts';
import type { OnEnd } from './automaton.ts';
import { type Part, type Search, SHORTEST } from './search.ts';

const STAR = 0x2a;

export interface Redactor {
  /** Names of the credentials that were found so far. */
  readonly found: ReadonlySet<string>;
  headers(headers: Headers): Headers;
  body(source: ByteSource): ByteSource;
}

/** What waits to be decided: as it came, and with stars for what is found in it already. */
interface Held {
  readonly came: Buffer;
  readonly shown: Buffer;
}

const NOTHING: Held = { came: Buffer.alloc(0), shown: Buffer.alloc(0) };

export function createRedactor(search: Search): Redactor {
  const found = new Set<string>();

  /** `shown`, or a copy of it, with stars for what `part` finds in `came`, and its state after them. */
  const starred = (
    part: Part,
    state: number,
    { came, shown }: Held,
    from: number,
  ): { readonly state: number; readonly shown: Buffer } => {
    const begins: number[] = [];
    const ends: number[] = [];
    const onEnd: OnEnd = ({ name, bytes }, end) => {
      found.add(name);
      begins.push(end - bytes.length);
      ends.push(end);
    };
    const after = part.read(state, came, from, onEnd);
    if (ends.length === 0) return { state: after, shown };
    // What arrived belongs to whoever sent it.
    const stars = Buffer.from(shown);
    // From the last one on, so that where they overlap each byte is written once.
    let floor = came.length;
    for (let i = ends.length - 1; i >= 0; i--) {
      const begin = begins[i] as number;
      if (begin >= floor) continue;
      stars.fill(STAR, begin, Math.min(ends[i] as number, floor));
      floor = begin;
    }
    return { state: after, shown: stars };
  };

  const shownHeaders = (headers: Headers): Headers =>
    headers.map((field) => {
      const [name, value] = field;
      // As many are.
      if (value.length < SHORTEST) return field;
      const came = Buffer.from(value, 'latin1');
      let shown: Buffer = came;
      for (const part of search.parts) ({ shown } = starred(part, 0, { came, shown }, 0));
      return shown === came ? field : [name, shown.toString('latin1')];
    });

  return {
    found,
    headers: shownHeaders,
    body: (source) => ({
      flow(sink) {
        let held = NOTHING;
        let parts: readonly Part[] = [];
        let states: number[] = [];
        return source.flow({
          write(chunk) {
            const bytes = view(chunk);
            let from = held.came.length;
            const came = from === 0 ? bytes : Buffer.concat([held.came, bytes]);
            let shown = from === 0 ? bytes : Buffer.concat([held.shown, bytes]);
            if (search.parts !== parts) {
              // What waits is read again, with the needles that came since.
              parts = search.parts;
              states = parts.map(() => 0);
              from = 0;
            }
            let waits = 0;
            for (const [i, part] of parts.entries()) {
              const read = starred(part, states[i] as number, { came, shown }, from);
              states[i] = read.state;
              shown = read.shown;
              waits = Math.max(waits, part.waits(read.state));
            }
            const decided = came.length - waits;
            held =
              waits === 0
                ? NOTHING
                : { came: came.subarray(decided), shown: shown.subarray(decided) };
            return decided === 0 || sink.write(shown.subarray(0, decided));
          },
          end(trailers) {
            if (held.shown.length > 0) sink.write(held.shown);
            sink.end(trailers && shownHeaders(trailers));
          },
          fail: (error) => sink.fail(error),
        });
      },
    }),
  };
}

function view(chunk: Uint8Array): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}
