// Whether a commit follows another one, shown by the commits at the front of a pack (gitformat-pack).
// A commit counts by the hash of what it holds, so nothing that a client says is believed: each link
// from the new commit to the old one is in the bytes that are sent on. What cannot be read is passed
// over, and then there is no proof. Time and memory are bounded, and a turn is given back in between.

import { createHash } from 'node:crypto';
import { inflateSync } from 'node:zlib';
import { applyDelta } from './delta.ts';

const MOST_OBJECTS = 10_000;
/** Named by all commits together; most name one. */
const MOST_PARENTS = 20_000;
/**
 * What a turn may inflate. Reading an object costs like so many bytes, and each byte of a stream up to
 * as much as this many that come of it: some streams are blocks that hold nothing.
 */
const BYTES_A_TURN = 1 << 20;
const OBJECT_COST_BYTES = 16 << 10;
const STREAM_COST = 16;
/** Of one object, and of all of them together, inflated. */
const MOST_OBJECT_BYTES = 128 << 10;
const MOST_BYTES = 16 << 20;
/** Of a commit that is made of a delta. */
const MOST_DELTA_BYTES = 64 << 10;

export interface Link {
  readonly old: string;
  readonly new: string;
}

const HEADER_BYTES = 12;
const COMMIT = 1;
const OFS_DELTA = 6;
const REF_DELTA = 7;

export interface Reading {
  readonly hash: 'sha1' | 'sha256';
  /** Commits whose parents are cut off: a server may take that over, and then nothing is behind them. */
  readonly shallow: ReadonlySet<string>;
  /** Resolves in a turn of the loop that this pack may go on in; rejects to end its reading. */
  readonly pause: () => Promise<void>;
}

/** For each link, whether the commits in `pack` show it. `pack` may end anywhere. */
export async function follows(
  pack: Buffer,
  links: readonly Link[],
  { hash, shallow, pause }: Reading,
): Promise<readonly boolean[]> {
  const parents = new Map<string, readonly string[]>();
  const shown = async (): Promise<readonly boolean[]> => {
    const found: boolean[] = [];
    for (const link of links) {
      await pause();
      found.push(reaches(parents, link));
    }
    return found;
  };
  const byOffset = new Map<number, Buffer>();
  const byId = new Map<string, Buffer>();
  let at = HEADER_BYTES;
  let left = MOST_BYTES;
  let spent = BYTES_A_TURN;
  let known = 0;
  let behindCommits = false;
  for (let n = 0; n < MOST_OBJECTS && left > 0; n++) {
    if (spent >= BYTES_A_TURN) {
      await pause();
      spent = 0;
    }
    const object = objectAt(pack, at, hash, Math.min(left, MOST_OBJECT_BYTES));
    if (object === undefined) break;
    left -= object.content.length;
    spent += object.content.length + (object.end - at) * STREAM_COST + OBJECT_COST_BYTES;
    const content = commitOf(object, at, byOffset, byId);
    if (content !== undefined) {
      left -= content.length;
      spent += content.length;
      const id = createHash(hash).update(`commit ${content.length}\0`).update(content);
      const name = id.digest('hex');
      const named = parentsOf(content, hash);
      known += named.length;
      if (known > MOST_PARENTS) break;
      parents.set(name, shallow.has(name) ? [] : named);
      byOffset.set(at, content);
      byId.set(name, content);
    } else if (parents.size > 0 && !behindCommits) {
      // Git sends its commits first: behind them there is seldom another. Asked once, it is cheap.
      behindCommits = true;
      if ((await shown()).every((one) => one)) break;
    }
    at = object.end;
  }
  return shown();
}

function reaches(parents: ReadonlyMap<string, readonly string[]>, link: Link): boolean {
  const seen = new Set([link.new]);
  for (const id of seen) {
    if (id === link.old) return true;
    for (const parent of parents.get(id) ?? []) seen.add(parent);
  }
  return false;
}

interface PackedObject {
  readonly type: number;
  /** Of a delta: how far before it its base begins, or the base's id. */
  readonly base?: number | string;
  readonly content: Buffer;
  readonly end: number;
}

/** Undefined when it is not whole, not readable, or larger than `most`. */
function objectAt(
  pack: Buffer,
  start: number,
  hash: 'sha1' | 'sha256',
  most: number,
): PackedObject | undefined {
  let at = start;
  let byte = pack[at++];
  if (byte === undefined) return undefined;
  const type = (byte >> 4) & 7;
  let size = byte & 15;
  for (let scale = 16; byte & 0x80; scale *= 128) {
    byte = pack[at++];
    if (byte === undefined || scale > most) return undefined;
    size += (byte & 0x7f) * scale;
  }
  if (size > most) return undefined;
  let base: number | string | undefined;
  if (type === OFS_DELTA) {
    let back = 0;
    for (let first = true; first || (byte as number) & 0x80; first = false) {
      byte = pack[at++];
      if (byte === undefined || back > pack.length) return undefined;
      back = (first ? 0 : (back + 1) * 128) + (byte & 0x7f);
    }
    base = back;
  } else if (type === REF_DELTA) {
    const end = at + (hash === 'sha1' ? 20 : 32);
    base = pack.toString('hex', at, end);
    at = end;
  }
  // No more than its content can need: what is longer is made to take time.
  const inflated = inflate(pack.subarray(at, at + size + (size >> 3) + 1024), size);
  if (inflated === undefined) return undefined;
  const { content, used } = inflated;
  return { type, ...(base === undefined ? {} : { base }), content, end: at + used };
}

function inflate(
  bytes: Buffer,
  size: number,
): { readonly content: Buffer; readonly used: number } | undefined {
  try {
    const options = { info: true, maxOutputLength: Math.max(1, size), chunkSize: chunkFor(size) };
    // With `info` the answer has this shape; its type does not say so.
    const { buffer, engine } = inflateSync(bytes, options) as unknown as {
      readonly buffer: Buffer;
      readonly engine: { readonly bytesWritten: number };
    };
    return buffer.length === size ? { content: buffer, used: engine.bytesWritten } : undefined;
  } catch {
    return undefined; // cut off, or no stream at all: there is no proof in it
  }
}

/** Memory is taken by the chunk, and most objects are small. */
function chunkFor(size: number): number {
  return Math.min(16_384, Math.max(256, size + 1));
}

/** The content of a commit, whole or as a delta on a commit before it. */
function commitOf(
  { type, base, content }: PackedObject,
  at: number,
  byOffset: ReadonlyMap<number, Buffer>,
  byId: ReadonlyMap<string, Buffer>,
): Buffer | undefined {
  if (type === COMMIT) return content;
  if (base === undefined) return undefined;
  const from = typeof base === 'number' ? byOffset.get(at - base) : byId.get(base);
  return from === undefined ? undefined : applyDelta(from, content, MOST_DELTA_BYTES);
}

/**
 * The lines `parent ID` behind the line `tree ID`; git reads them at this place and no other, and has no
 * commit at all where one of these lines is broken.
 */
function parentsOf(commit: Buffer, hash: 'sha1' | 'sha256'): readonly string[] {
  const digits = hash === 'sha1' ? 40 : 64;
  const found: string[] = [];
  let at = 'tree \n'.length + digits;
  if (idIn(commit.toString('latin1', 0, at), 'tree')?.length !== digits) return [];
  for (;;) {
    const line = commit.toString('latin1', at, at + 'parent \n'.length + digits);
    const id = idIn(line, 'parent');
    if (id?.length !== digits) return line.startsWith('parent ') ? [] : found;
    found.push(id);
    at += line.length;
  }
}

function idIn(line: string, name: 'tree' | 'parent'): string | undefined {
  const [, word, id] = /^(tree|parent) ([0-9a-f]+)\n$/.exec(line) ?? [];
  return word === name ? id : undefined;
}
