// The file operations of the writer thread, and all that it knows of a disk. Each throws what the
// system answers. A program that studies failing disks hands the thread another module with the same
// export.

import * as fs from 'node:fs';

export interface FileOps {
  /** Opens for reading and writing; creates the file (0600) when it is not there. */
  open(path: string): number;
  sizeBytes(fd: number): number;
  /** One write; answers how many bytes were taken. */
  write(fd: number, bytes: Uint8Array, offset: number): number;
  /** fdatasync: the bytes are on the disk, and the size when it grew. */
  sync(fd: number): void;
  /** Makes the names in a directory durable. */
  syncDir(path: string): void;
  close(fd: number): void;
}

export const fileOps: FileOps = {
  open: (path) => fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600),
  sizeBytes: (fd) => fs.fstatSync(fd).size,
  write: (fd, bytes, offset) => fs.writeSync(fd, bytes, 0, bytes.length, offset),
  sync: (fd) => fs.fdatasyncSync(fd),
  syncDir(path) {
    const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  },
  close: (fd) => fs.closeSync(fd),
};
