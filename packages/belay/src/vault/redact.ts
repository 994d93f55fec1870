// Takes the values of credentials out of what comes back: each byte of one becomes `*`, so that lengths
// and framing stay as the upstream made them. A value is found whole, in the forms that servers echo it
// in (as it is, in JSON, in a URL, in hexadecimal, in base64 at any offset), also when it arrives in
// parts: bytes that could be the beginning of one wait for those that decide it.

import type { ByteSource, Headers } from '../core/call.ts';

/** Shorter ones would be found in everything. */
const SHORTEST = 8;
const STAR = 0x2a;

export interface Needle {
  /** Of the credential. */
  readonly name: string;
  readonly bytes: Buffer;
}

export function needlesOf(name: string, value: string): readonly Needle[] {
  const raw = Buffer.from(value);
  if (raw.length < SHORTEST) return [];
  const inUrl = encodeURIComponent(value);
  const inJson = JSON.stringify(value).slice(1, -1);
  const hex = raw.toString('hex');
  const inBase64 = [0, 1, 2].map((offset) => base64At(raw, offset));
  const forms = new Set([
    ...[value, inJson, inJson.replaceAll('/', '\\/'), hex, hex.toUpperCase()],
    ...[inUrl, inUrl.replaceAll('%20', '+')].flatMap((text) => [text, lowerEscapes(text)]),
    ...inBase64.flatMap((text) => [text, text.replaceAll('+', '-').replaceAll('/', '_')]),
  ]);
  return [...forms].map((form) => ({ name, bytes: Buffer.from(form) }));
}

/** The part of it that its neighbours have no say in, after `offset` bytes of a group of three. */
function base64At(raw: Buffer, offset: number): string {
  const before = Math.ceil((offset * 8) / 6);
  const whole = Math.floor(((offset + raw.length) * 8) / 6);
  const text = Buffer.concat([Buffer.alloc(offset), raw]).toString('base64');
  return text.slice(before, whole);
}

function lowerEscapes(text: string): string {
  return text.replace(/%../g, (found) => found.toLowerCase());
}

export interface Redactor {
  /** Names of the credentials that were found so far. */
  readonly found: ReadonlySet<string>;
  headers(headers: Headers): Headers;
  body(source: ByteSource): ByteSource;
}

export function createRedactor(needles: readonly Needle[]): Redactor {
  const found = new Set<string>();

  /** The bytes with stars in them; the same ones when there is nothing to hide. */
  const starred = (bytes: Buffer): Buffer => {
    let out = bytes;
    for (const { name, bytes: needle } of needles) {
      for (let at = out.indexOf(needle); at >= 0; at = out.indexOf(needle, at + needle.length)) {
        // What arrived belongs to whoever sent it.
        if (out === bytes) out = Buffer.from(bytes);
        out.fill(STAR, at, at + needle.length);
        found.add(name);
      }
    }
    return out;
  };

  const shortest = Math.min(...needles.map(({ bytes }) => bytes.length));
  const shown = (headers: Headers): Headers =>
    headers.map((field) => {
      const [name, value] = field;
      // As nearly all are.
      if (value.length < shortest) return field;
      return [name, starred(Buffer.from(value, 'latin1')).toString('latin1')];
    });

  return {
    found,
    headers: shown,
    body: (source) => ({
      flow(sink) {
        let held: Buffer | undefined;
        return source.flow({
          write(chunk) {
            const bytes = starred(held === undefined ? view(chunk) : Buffer.concat([held, chunk]));
            const waits = undecided(bytes, needles);
            held = waits === 0 ? undefined : bytes.subarray(bytes.length - waits);
            return waits === bytes.length || sink.write(bytes.subarray(0, bytes.length - waits));
          },
          end(trailers) {
            if (held !== undefined) sink.write(held);
            sink.end(trailers && shown(trailers));
          },
          fail: (error) => sink.fail(error),
        });
      },
    }),
  };
}

/** How many of the last bytes could be the beginning of a needle. */
function undecided(bytes: Buffer, needles: readonly Needle[]): number {
  const { length } = bytes;
  let most = 0;
  for (const { bytes: needle } of needles) {
    let at = bytes.indexOf(needle[0] as number, Math.max(0, length - needle.length + 1));
    // Only what waits longer than what is known to wait already is of interest.
    while (at >= 0 && length - at > most) {
      if (bytes.compare(needle, 0, length - at, at) === 0) most = length - at;
      at = bytes.indexOf(needle[0] as number, at + 1);
    }
  }
  return most;
}

function view(chunk: Uint8Array): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}
