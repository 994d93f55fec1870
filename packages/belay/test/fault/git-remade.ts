// A push, changed in what it says and then made whole again: lengths, counts, offsets and hashes are
// right, and its commands name the commits that came of it. A change of bytes alone hardly ever gets past
// the first hash.

import { createHash } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import { vary } from './fuzzer.ts';
import {
  COMMIT,
  commitsAmong,
  ID_DELTA,
  idOf,
  OFFSET_DELTA,
  type ReadObject,
  readList,
  readObjects,
  wholeCommits,
} from './git-reader.ts';
import type { Chance } from './random.ts';

type Hash = 'sha1' | 'sha256';

/** What is behind it in a pack is left out. */
const ENOUGH_BYTES = 256 << 10;

/** Undefined when it is no push at all. */
export function remade(bytes: Buffer, words: readonly Buffer[], draw: Chance): Buffer | undefined {
  const list = readList(bytes);
  const [first] = list?.commands ?? [];
  if (list === undefined || first === undefined) return undefined;
  const hash: Hash = first.old.length === 64 ? 'sha256' : 'sha1';
  const objects = readObjects(bytes.subarray(list.end), hash, ENOUGH_BYTES);
  const hasPack = bytes.length > list.end;
  const pack = writePack(
    draw.happens(0.8) ? otherObjects(objects, words, hash, draw) : objects,
    hash,
  );
  const commits = commitsAmong(readObjects(pack, hash, ENOUGH_BYTES), hash);
  const payloads = list.payloads.map((payload) => renamed(payload, commits, hash, draw));
  return Buffer.concat([
    ...(draw.happens(0.3) ? otherLines(payloads, words, draw) : payloads).map(packetOf),
    Buffer.from('0000'),
    ...(hasPack ? [pack] : []),
  ]);
}

function packetOf(payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from((payload.length + 4).toString(16).padStart(4, '0')), payload]);
}

function otherLines(payloads: readonly Buffer[], words: readonly Buffer[], draw: Chance): Buffer[] {
  const lines: Buffer[] = [...payloads];
  const at = draw.below(lines.length);
  const line = lines[at] as Buffer;
  const varied = vary([line], words, draw).subarray(0, 4_000);
  switch (draw.below(5)) {
    case 0:
      lines.splice(at, 0, line);
      break;
    case 1:
      lines.splice(at, 1);
      break;
    case 2: // line feeds: git takes one off
      lines[at] = Buffer.concat([line, Buffer.from('\n'.repeat(1 + draw.below(2)))]);
      break;
    default:
      lines[at] = varied;
  }
  return lines;
}

/** With ids of commits that are there, or that they hold anywhere. */
function renamed(
  payload: Buffer,
  commits: ReadonlyMap<string, Buffer>,
  hash: Hash,
  draw: Chance,
): Buffer {
  const digits = hash === 'sha1' ? 40 : 64;
  const [id, old] = [
    payload.toString('latin1', digits + 1, 2 * digits + 1),
    payload.toString('latin1', 0, digits),
  ];
  const ids = [...commits.keys()];
  if (ids.length === 0 || !/^[0-9a-f]+$/.test(id + old)) return payload;
  const anyId = new RegExp(`[0-9a-f]{${digits}}`, 'g');
  const spoken = [...commits.values()].flatMap(
    (commit) => commit.toString('latin1').match(anyId) ?? [],
  );
  const isNone = (text: string): boolean => /^0+$/.test(text);
  const copy = Buffer.from(payload);
  if (!isNone(id) && draw.happens(0.9)) copy.write(draw.of(ids), digits + 1, 'latin1');
  if (!isNone(old) && draw.happens(0.4)) copy.write(draw.of([...spoken, ...ids]), 0, 'latin1');
  return copy;
}

function otherObjects(
  objects: readonly ReadObject[],
  words: readonly Buffer[],
  hash: Hash,
  draw: Chance,
): readonly ReadObject[] {
  const all = draw.happens(0.6) ? withoutDeltas(objects, hash) : [...objects];
  for (let left = 1 + draw.below(3); left > 0 && all.length > 0; left--) {
    const commits = all.flatMap(({ type }, i) => (type === COMMIT ? [i] : []));
    const at = commits.length > 0 && draw.happens(0.9) ? draw.of(commits) : draw.below(all.length);
    const one = all[at] as ReadObject;
    switch (draw.below(8)) {
      case 0: // gone
        all.splice(at, 1);
        break;
      case 1: // elsewhere
        all.splice(at, 1);
        all.splice(draw.below(all.length + 1), 0, one);
        break;
      case 2: // said to be something else
        all[at] = { ...one, type: draw.of([0, 1, 2, 3, 4, 5]) };
        break;
      case 3: // a delta on another commit, which may be behind it or nowhere
        all[at] = asDelta(
          one,
          all[draw.of(commits.length > 0 ? commits : [at])] as ReadObject,
          hash,
          draw,
        );
        break;
      default:
        all[at] = { ...one, content: otherCommit(one.content, words, draw) };
    }
    if (draw.happens(0.6)) linkAgain(all, one, at, hash);
  }
  return all;
}

function withoutDeltas(objects: readonly ReadObject[], hash: Hash): ReadObject[] {
  const commits = wholeCommits(objects, hash);
  return objects.map((object) => {
    const content = commits.get(object.start);
    return content === undefined ? object : { type: COMMIT, content, start: object.start };
  });
}

/** Whoever named the commit `before` names what stands at `at` now, up to the newest. */
function linkAgain(all: ReadObject[], before: ReadObject, at: number, hash: Hash): void {
  const now = all[at];
  if (before.type !== COMMIT || now?.type !== COMMIT) return;
  const ids = new Map([[idOf(before.content, hash), idOf(now.content, hash)]]);
  for (let i = at - 1; i >= 0; i--) {
    const one = all[i] as ReadObject;
    if (one.type !== COMMIT) continue;
    const text = one.content.toString('latin1');
    const named = text.replace(/(?<=parent )[0-9a-f]+/g, (id) => ids.get(id) ?? id);
    if (named === text) continue;
    const content = Buffer.from(named, 'latin1');
    ids.set(idOf(one.content, hash), idOf(content, hash));
    all[i] = { ...one, content };
  }
}

/** Changed in its head, where everything is that matters, or anywhere. */
function otherCommit(content: Buffer, words: readonly Buffer[], draw: Chance): Buffer {
  if (draw.happens(0.3)) return vary([content], words, draw);
  if (draw.happens(0.3)) {
    const copy = Buffer.from(content);
    copy.write(draw.of([...'09afAFgz \n\0']), draw.below(Math.min(copy.length, 160)), 'latin1');
    return copy;
  }
  const lines = content.toString('latin1').split('\n');
  const at = draw.below(Math.min(lines.length, 6));
  const word = draw.of(words).toString('latin1');
  lines.splice(at, draw.below(2), ...(draw.happens(0.5) ? [word.replace(/\n$/, '')] : []));
  return Buffer.from(lines.join('\n'), 'latin1');
}

function asDelta(one: ReadObject, base: ReadObject, hash: Hash, draw: Chance): ReadObject {
  const content = deltaOf(base.content, one.content);
  const byOffset = draw.happens(0.5) && one.start > base.start;
  return byOffset
    ? { type: OFFSET_DELTA, content, start: one.start, back: one.start - base.start }
    : { type: ID_DELTA, content, start: one.start, base: idOf(base.content, hash) };
}

/** What both begin with is copied, the rest is carried. */
function deltaOf(base: Buffer, target: Buffer): Buffer {
  let alike = 0;
  while (alike < Math.min(base.length, target.length, 0xffff) && base[alike] === target[alike])
    alike++;
  const parts = [sevens(base.length), sevens(target.length)];
  if (alike > 0) parts.push(Buffer.of(0xb0, alike & 255, alike >> 8));
  for (let at = alike; at < target.length; at += 127) {
    const part = target.subarray(at, at + 127);
    parts.push(Buffer.of(part.length), part);
  }
  return Buffer.concat(parts);
}

export function writePack(objects: readonly ReadObject[], hash: Hash): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(objects.length);
  const parts: Buffer[] = [Buffer.from('PACK\0\0\0\x02'), count];
  const starts = new Map<number, number>();
  let at = 12;
  for (const { type, content, start, back, base } of objects) {
    starts.set(start, at);
    const written: Buffer[] = [
      Buffer.of((type << 4) | (content.length & 15) | (content.length > 15 ? 128 : 0)),
    ];
    if (content.length > 15) written.push(sevens(content.length >> 4));
    if (back !== undefined) written.push(offset(at - (starts.get(start - back) ?? at - back)));
    if (base !== undefined) written.push(Buffer.from(base, 'hex'));
    written.push(deflateSync(content, { level: 1 }));
    parts.push(...written);
    at += Buffer.concat(written).length;
  }
  const whole = Buffer.concat(parts);
  return Buffer.concat([whole, createHash(hash).update(whole).digest()]);
}

/** Seven bits in each byte, the lowest first. */
function sevens(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest >>= 7) bytes.push((rest & 127) | 128);
  return Buffer.of(...bytes, rest);
}

/** Seven bits in each byte, the highest first, each but the last one less. */
function offset(value: number): Buffer {
  const bytes = [value & 127];
  for (let rest = value >> 7; rest > 0; rest >>= 7) {
    rest -= 1;
    bytes.unshift((rest & 127) | 128);
  }
  return Buffer.of(...bytes);
}
