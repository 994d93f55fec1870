import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './large-bodies.ts';

verifies(
  'gw.streaming',
  '200 MB down and 200 MB up pass whole through the whole road, in flat memory',
  async () => {
    const figures = await prove({ scale: 1 / 50 });
    expect(figures.bytes).toBe(200_000_000);
  },
  { timeoutMs: 180_000 },
);
