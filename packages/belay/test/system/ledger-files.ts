// Reads the ledger's files as they are on the disk at this moment, by the written description of the
// format alone: what it finds does not depend on the code that wrote it. Stops at the first frame
// that is not whole.

import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
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

/** Resolves as soon as a frame more than now is in the newest segment. Watches without pause. */
export async function watchFrames(home: string, withinMs = 5_000): Promise<void> {
  const folder = join(home, 'ledger/segments');
  const names = readdirSync(folder).filter((name) => name.endsWith('.seg'));
  const head = Buffer.alloc(8);
  const segments = names.sort().map((name) => {
    const fd = openSync(join(folder, name), 'r');
    let at = HEADER_BYTES;
    const advance = (): number => {
      for (;;) {
        readSync(fd, head, 0, 8, at);
        const size = head.readUInt32BE(4);
        if (size === 0) return at;
        at += FRAME_HEAD_BYTES + size;
      }
    };
    return { fd, before: advance(), advance };
  });
  try {
    for (const deadlineMs = performance.now() + withinMs; ; ) {
      for (let turn = 0; turn < 1_000; turn++) {
        if (segments.some(({ before, advance }) => advance() !== before)) return;
      }
      // The upstream lives in this process and must answer meanwhile.
      await new Promise(setImmediate);
      if (performance.now() > deadlineMs) throw new Error('nothing was written to the ledger');
    }
  } finally {
    for (const { fd } of segments) closeSync(fd);
  }
}
