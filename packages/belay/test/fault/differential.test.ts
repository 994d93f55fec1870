import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './differential.ts';

verifies(
  'gw.differential',
  'ordinary requests arrive, and are answered, byte for byte as without Belay',
  async () => {
    const figures = await prove({ scale: 1 / 10, seed: 3 });
    expect(figures.requests).toBe(500);
    expect(figures.withTrailers, 'answers with trailers').toBeGreaterThan(10);
    expect(figures.streamed, 'bodies that were not kept in memory').toBeGreaterThan(0);
  },
  { timeoutMs: 120_000 },
);
