// Randomness for ids and tokens, from the kernel.

import { randomBytes } from 'node:crypto';
import type { Random } from '../core/ids.ts';

const POOL_BYTES = 8192;
const MOST_POOLED_BYTES = 64;

/** The kernel is asked for many bytes at once: each request costs more than the bytes. No byte is
 * given out twice. */
export function createRandom(): Random {
  let pool: Buffer = randomBytes(POOL_BYTES);
  let at = 0;
  return (size) => {
    if (size > MOST_POOLED_BYTES) return randomBytes(size);
    if (at + size > pool.length) {
      pool = randomBytes(POOL_BYTES);
      at = 0;
    }
    at += size;
    return pool.subarray(at - size, at);
  };
}
