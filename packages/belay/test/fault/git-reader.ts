// Another reader of a push. Its command list is read as git's receive-pack reads it (read_head_info in
// builtin/receive-pack.c), which takes much that is better refused; of its pack, every object that can
// be made out, deltas on whatever base is there, and which commit names which parents, in the one form
// in which git parses a commit (parse_commit_buffer in commit.c). Nothing of Belay is used.

import { createHash } from 'node:crypto';
import { inflateSync } from 'node:zlib';

export interface ReadCommand {
  /** In lower case; of zeros where there is none. */
  readonly old: string;
  readonly new: string;
  readonly ref: string;
}

export interface ReadList {
  readonly commands: readonly ReadCommand[];
  /** Of each packet, in order, as it stands. */
  readonly payloads: readonly Buffer[];
  /** Where the pack begins. */
  readonly end: number;
}

/** Undefined where git ends with an error, or waits for more. */
export function readList(bytes: Buffer): ReadList | undefined {
  const payloads: Buffer[] = [];
  const commands: ReadCommand[] = [];
  for (let at = 0; ; ) {
    const digits = bytes.toString('latin1', at, at + 4);
    if (!/^[0-9a-f]{4}$/i.test(digits)) return undefined;
    const size = Number.parseInt(digits, 16);
    if (size < 3) return { commands, payloads, end: at + 4 };
    if (size === 3 || size > 65_520 || at + size > bytes.length) return undefined;
    const payload = bytes.subarray(at + 4, at + size);
    at += size;
    payloads.push(payload);
    const last = payload.length - 1;
    const line = payload[last] === 10 ? payload.subarray(0, last) : payload;
    if (line.toString('latin1', 0, 4) === 'ERR ') return undefined;
    if (line.length > 8 && line.toString('latin1', 0, 8) === 'shallow ') continue;
    const nul = line.indexOf(0);
    const command = commandIn(line.toString('latin1', 0, nul === -1 ? line.length : nul));
    if (command === undefined) return undefined;
    commands.push(command);
  }
}

/** A ref is whatever comes behind the ids. */
function commandIn(text: string): ReadCommand | undefined {
  for (const digits of [40, 64]) {
    const [old, id] = [text.slice(0, digits), text.slice(digits + 1, 2 * digits + 1)];
    const spaces = text[digits] === ' ' && text[2 * digits + 1] === ' ';
    if (!spaces || !isHex(old, digits) || !isHex(id, digits)) continue;
    return { old: old.toLowerCase(), new: id.toLowerCase(), ref: text.slice(2 * digits + 2) };
  }
  return undefined;
}

function isHex(text: string, digits: number): boolean {
  return text.length === digits && /^[0-9a-f]*$/i.test(text);
}

export const COMMIT = 1;
export const OFFSET_DELTA = 6;
export const ID_DELTA = 7;
export const PACK_HEADER_BYTES = 12;
const MOST_OBJECT_BYTES = 1 << 20;
const MOST_BYTES = 24 << 20;

export interface ReadObject {
  readonly type: number;
  /** As it was deflated: of a delta, the delta. */
  readonly content: Buffer;
  readonly start: number;
  /** Of a delta by offset: how far before it its base begins. */
  readonly back?: number;
  /** Of a delta by id. */
  readonly base?: string;
}

/** From the start of the pack to the first byte that begins no object, or until they hold enough. */
export function readObjects(
  pack: Buffer,
  hash: 'sha1' | 'sha256',
  enoughBytes = MOST_BYTES,
): readonly ReadObject[] {
  const found: ReadObject[] = [];
  const idBytes = hash === 'sha1' ? 20 : 32;
  let left = enoughBytes;
  for (let at = PACK_HEADER_BYTES; at < pack.length && left > 0; ) {
    const start = at;
    const head = sevens(pack, at + 1, ((pack[at] as number) & 0x80) !== 0);
    const type = ((pack[at] as number) >> 4) & 7;
    const size = ((pack[at] as number) & 15) + head.value * 16;
    at = head.end;
    let more: Pick<ReadObject, 'back' | 'base'> = {};
    if (type === OFFSET_DELTA) {
      let back = (pack[at] ?? 0) & 127;
      while ((pack[at++] ?? 0) & 128) back = (back + 1) * 128 + ((pack[at] ?? 0) & 127);
      more = { back };
    } else if (type === ID_DELTA) {
      more = { base: pack.toString('hex', at, at + idBytes) };
      at += idBytes;
    }
    if (at >= pack.length || size > MOST_OBJECT_BYTES) break;
    const stream = inflated(pack.subarray(at), size);
    if (stream === undefined) break;
    left -= size;
    at += stream.used;
    found.push({ type, content: stream.content, start, ...more });
  }
  return found;
}

function sevens(bytes: Buffer, from: number, more: boolean): { value: number; end: number } {
  let value = 0;
  let at = from;
  for (let scale = 1, next = more; next; scale *= 128) {
    const byte = bytes[at++] ?? 0;
    value += (byte & 127) * scale;
    next = (byte & 128) !== 0;
  }
  return { value, end: at };
}

function inflated(bytes: Buffer, size: number): { content: Buffer; used: number } | undefined {
  try {
    const { buffer, engine } = inflateSync(bytes, {
      info: true,
      maxOutputLength: size + 1,
    }) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
    return buffer.length === size ? { content: buffer, used: engine.bytesWritten } : undefined;
  } catch {
    return undefined; // no stream, or a longer one: it begins no object
  }
}

/** Of each commit among the objects, by where it starts: what it says, also where it is a delta. */
export function wholeCommits(
  objects: readonly ReadObject[],
  hash: 'sha1' | 'sha256',
): ReadonlyMap<number, Buffer> {
  const byStart = new Map<number, Buffer>();
  const byId = new Map<string, Buffer>();
  // A base may stand behind its delta.
  for (let before = -1; before !== byStart.size; ) {
    before = byStart.size;
    for (const { type, content, start, back, base } of objects) {
      if (byStart.has(start)) continue;
      let whole = type === COMMIT ? content : undefined;
      if (back !== undefined) whole = patched(byStart.get(start - back), content);
      if (base !== undefined) whole = patched(byId.get(base), content);
      if (whole === undefined) continue;
      byStart.set(start, whole);
      byId.set(idOf(whole, hash), whole);
    }
  }
  return byStart;
}

/** The same by their ids. */
export function commitsAmong(
  objects: readonly ReadObject[],
  hash: 'sha1' | 'sha256',
): ReadonlyMap<string, Buffer> {
  const all = [...wholeCommits(objects, hash).values()];
  return new Map(all.map((commit) => [idOf(commit, hash), commit]));
}

export function idOf(commit: Buffer, hash: 'sha1' | 'sha256'): string {
  return createHash(hash).update(`commit ${commit.length}\0`).update(commit).digest('hex');
}

function patched(base: Buffer | undefined, delta: Buffer): Buffer | undefined {
  if (base === undefined) return undefined;
  const from = sevens(delta, 0, true);
  const to = sevens(delta, from.end, true);
  if (from.value !== base.length || to.value > MOST_OBJECT_BYTES) return undefined;
  const parts: Buffer[] = [];
  for (let at = to.end; at < delta.length; ) {
    const op = delta[at++] as number;
    if (op === 0) return undefined;
    if (op < 128) {
      parts.push(delta.subarray(at, at + op));
      at += op;
      continue;
    }
    const [offset = 0, count = 0] = [
      [1, 2, 4, 8],
      [16, 32, 64],
    ].map((bits) =>
      bits.reduce((sum, bit, i) => sum + (op & bit ? (delta[at++] ?? 0) * 256 ** i : 0), 0),
    );
    parts.push(base.subarray(offset, offset + (count === 0 ? 0x10000 : count)));
  }
  const whole = Buffer.concat(parts);
  return whole.length === to.value ? whole : undefined;
}

/** None when git would not parse it. */
export function parentsOf(commit: Buffer, hash: 'sha1' | 'sha256'): readonly string[] {
  const digits = hash === 'sha1' ? 40 : 64;
  const text = commit.toString('latin1');
  const id = `[0-9a-fA-F]{${digits}}`;
  const [head] = new RegExp(`^tree ${id}\n(?:parent ${id}\n)*`).exec(text) ?? [];
  if (head === undefined || text.length <= 'tree \n'.length + digits) return [];
  if (text.startsWith('parent ', head.length)) return [];
  const lines = head.split('\n').slice(1, -1);
  return lines.map((line) => line.slice('parent '.length).toLowerCase());
}

/** Whether the commits lead from `id` back to `old`. */
export function leads(
  commits: ReadonlyMap<string, Buffer>,
  id: string,
  old: string,
  hash: 'sha1' | 'sha256',
): boolean {
  const seen = new Set([id]);
  for (const next of seen) {
    const commit = commits.get(next);
    for (const parent of commit === undefined ? [] : parentsOf(commit, hash)) seen.add(parent);
  }
  return seen.has(old);
}
