// File operations for the ledger's writer thread on a disk that misbehaves as the query of the
// module's URL says, at the Nth such operation and then never again:
//   fail=sync|write|short|exit&at=N   it fails; of short writes only those of entries are counted,
//                                     since zeros that lack are written again
//   hold=write|sync&at=N              it says so on stderr and waits to be killed; a held sync first
//                                     loses any sectors of the write before it, as a power cut does

import { randomInt } from 'node:crypto';
import * as fs from 'node:fs';
import { type FileOps, fileOps as real } from '../../src/ledger/file-ops.ts';

const SECTOR_BYTES = 512;
const HOLD_MS = 10_000;

const query = new URL(import.meta.url).searchParams;
const fail = query.get('fail');
const hold = query.get('hold');
const at = Number(query.get('at'));
let count = 0;
let last = { offset: 0, lengthBytes: 0 };

const isNow = (wish: string | null, kinds: readonly string[]): boolean =>
  wish !== null && kinds.includes(wish) && ++count === at;

function waitToBeKilled(): void {
  fs.writeSync(2, 'held');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, HOLD_MS);
}

function loseSectors(fd: number): void {
  const end = last.offset + last.lengthBytes;
  for (let from = last.offset; from < end; ) {
    const to = Math.min(end, (Math.floor(from / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    if (randomInt(2) === 0) real.write(fd, new Uint8Array(to - from), from);
    from = to;
  }
}

export const fileOps: FileOps = {
  ...real,
  write(fd, bytes, offset) {
    if (isNow(hold, ['write'])) waitToBeKilled();
    if (bytes.some((byte) => byte !== 0) && isNow(fail, ['short'])) {
      return real.write(fd, bytes.subarray(0, bytes.length >> 1), offset);
    }
    if (isNow(fail, ['write', 'exit'])) {
      if (fail === 'exit') process.exit(0);
      throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO' });
    }
    last = { offset, lengthBytes: bytes.length };
    return real.write(fd, bytes, offset);
  },
  sync(fd) {
    if (isNow(hold, ['sync'])) {
      loseSectors(fd);
      waitToBeKilled();
    }
    if (isNow(fail, ['sync'])) {
      throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' });
    }
    real.sync(fd);
  },
};
