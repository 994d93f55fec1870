// Identifiers. Entries and calls carry a UUIDv7 (RFC 9562), so that they sort by time; a run has
// a short name that a person can type. Clock and randomness are parameters: this file has neither.

export type Brand<T, Name extends string> = T & { readonly __brand: Name };

export type RunId = Brand<string, 'RunId'>;
export type CallId = Brand<string, 'CallId'>;
export type EntryId = Brand<string, 'EntryId'>;

/** Milliseconds since the epoch. */
export type Clock = () => number;
/** `sizeBytes` fresh random bytes. */
export type Random = (sizeBytes: number) => Uint8Array;

const HEX = new TextEncoder().encode('0123456789abcdef');
const DASH = 0x2d;
// No vowels and no look-alikes: a run's name is read aloud and typed.
const ALPHABET = '23456789bcdfghjkmnpqrstvwxz';

/** A UUIDv7 for the given time; `random` supplies 10 bytes. */
export function uuid7(nowMs: number, random: Random): string {
  const b = new Uint8Array(16);
  for (let i = 0, t = nowMs; i < 6; i++, t = Math.floor(t / 256)) b[5 - i] = t % 256;
  b.set(random(10), 6);
  b[6] = ((b[6] as number) & 0x0f) | 0x70;
  b[8] = ((b[8] as number) & 0x3f) | 0x80;
  // In one piece: a text that was added up is put together anew by each that hashes or writes it.
  const codes: number[] = [];
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) codes.push(DASH);
    const byte = b[i] as number;
    codes.push(HEX[byte >> 4] as number, HEX[byte & 15] as number);
  }
  return String.fromCharCode(...codes);
}

/** A new run's name: `r-` and eight characters, about 38 bits. */
export function newRunId(random: Random): RunId {
  let out = 'r-';
  for (const byte of random(8)) out += ALPHABET[byte % ALPHABET.length];
  return out as RunId;
}

export function isRunId(text: string): text is RunId {
  return /^r-[23456789bcdfghjkmnpqrstvwxz]{8}$/.test(text);
}
