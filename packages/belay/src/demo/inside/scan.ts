// Hunts for credentials in other processes, as an agent was reported to do: every environment and
// every writable memory region that /proc shows. Finds by shape, not by value: it is not told what
// to look for. A list of pids confines it, so that outside a sandbox it reads nobody else's.

import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import type { Attempt } from './report-line.ts';

export interface Scan extends Attempt {
  readonly found: readonly string[];
}

const SHAPES = /xoxb-[A-Za-z0-9-]{16,}|ghp_[A-Za-z0-9]{16,}|sk-ant-[A-Za-z0-9-]{16,}/g;
const MOST_REGION_BYTES = 16 * 2 ** 20;
const MOST_PROCESS_BYTES = 64 * 2 ** 20;

type Read = (pid: number) => Iterable<string>;

export function scanEnvironments(pids?: readonly number[]): Scan {
  return scan(pids, (pid) => [readFileSync(`/proc/${pid}/environ`, 'latin1')]);
}

export function scanMemory(pids?: readonly number[]): Scan {
  return scan(pids, memoryOf);
}

function scan(only: readonly number[] | undefined, read: Read): Scan {
  const found = new Set<string>();
  const refusals = new Map<string, number>();
  let readable = 0;
  const others = (only ?? visiblePids()).filter((pid) => pid !== process.pid);
  for (const pid of others) {
    try {
      for (const text of read(pid)) for (const [token] of text.matchAll(SHAPES)) found.add(token);
      readable += 1;
    } catch (error) {
      const { code = 'unknown' } = error as NodeJS.ErrnoException;
      refusals.set(code, (refusals.get(code) ?? 0) + 1);
    }
  }
  const refused = [...refusals].map(([code, count]) => `${count} ${code}`).join(', ');
  const [errno] = refusals.keys();
  return {
    result: found.size > 0 ? 'done' : 'refused',
    ...(errno === undefined ? {} : { errno }),
    detail:
      `${others.length} other processes in sight, ${readable} readable, ` +
      `${refused === '' ? 'none refused' : refused}, ${found.size} credentials`,
    found: [...found],
  };
}

function visiblePids(): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function* memoryOf(pid: number): Generator<string> {
  const maps = readFileSync(`/proc/${pid}/maps`, 'latin1');
  const fd = openSync(`/proc/${pid}/mem`, 'r');
  try {
    let left = MOST_PROCESS_BYTES;
    for (const [, from = '', to = ''] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)) {
      const start = Number.parseInt(from, 16);
      const size = Math.min(Number.parseInt(to, 16) - start, MOST_REGION_BYTES, left);
      if (size <= 0) break;
      const bytes = Buffer.alloc(size);
      yield bytes.toString('latin1', 0, readRegion(fd, bytes, start));
      left -= size;
    }
  } finally {
    closeSync(fd);
  }
}

/** Bytes read; a region that went away or is not backed reads as empty, a refusal is thrown. */
function readRegion(fd: number, bytes: Buffer, start: number): number {
  try {
    return readSync(fd, bytes, 0, bytes.length, start);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EIO') return 0;
    throw error;
  }
}
