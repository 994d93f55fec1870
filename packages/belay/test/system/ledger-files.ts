// Reads the ledger's files as they are on the disk at this moment, by the written description of the
// format alone: what it finds does not depend on the code that wrote it. Stops at the first frame
// that is not whole.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { Entry } from '../../src/core/entry.ts';

const HEADER_BYTES = 32;
const FRAME_HEAD_BYTES = 12;

export function entriesOnDisk(home: string): readonly Entry[] {
  const folder = join(home, 'ledger/segments');
  const names = readdirSync(folder).filter((name) => name.endsWith('.seg'));
  return names.sort().flatMap((name) => entriesIn(readFileSync(join(folder, name))));
}

function entriesIn(bytes: Buffer): readonly Entry[] {
  if (bytes.toString('latin1', 0, 8) !== 'BELAYSEG') return [];
  const entries: Entry[] = [];
  let at = HEADER_BYTES;
  while (at + FRAME_HEAD_BYTES < bytes.length) {
    const size = bytes.readUInt32BE(at + 4);
    const end = at + FRAME_HEAD_BYTES + size;
    if (size === 0 || end > bytes.length) break;
    if (bytes.readUInt32BE(at) !== crc32(bytes.subarray(at + 4, end))) break;
    entries.push(JSON.parse(bytes.toString('utf8', at + FRAME_HEAD_BYTES, end)) as Entry);
    at = end;
  }
  return entries;
}
