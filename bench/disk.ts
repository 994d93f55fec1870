// What the disk takes for one small durable write, as the ledger's writer does it: into a file that
// was filled before, with fdatasync. On the file system that holds the ledger.

import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const FILE_BYTES = 4 << 20;
const RECORD_BYTES = 1024;

/** Milliseconds, one for each write. */
export function probeDisk(folder: string, writes: number): readonly number[] {
  const path = join(folder, 'bench-probe');
  const fd = openSync(path, 'w', 0o600);
  try {
    writeSync(fd, new Uint8Array(FILE_BYTES), 0, FILE_BYTES, 0);
    fdatasyncSync(fd);
    const record = new Uint8Array(RECORD_BYTES).fill(7);
    return Array.from({ length: writes }, (_, i) => {
      const startMs = performance.now();
      writeSync(fd, record, 0, RECORD_BYTES, (i * RECORD_BYTES) % FILE_BYTES);
      fdatasyncSync(fd);
      return performance.now() - startMs;
    });
  } finally {
    closeSync(fd);
    rmSync(path);
  }
}
