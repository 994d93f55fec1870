import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './http-fuzz.ts';

verifies(
  'fuzz.http',
  'thousands of mutated requests: what arrives is what another reader reads, each with its intent',
  async () => {
    const figures = await prove({ scale: 1 / 50, seed: 11 });
    expect(figures.cases).toBeGreaterThan(2_000);
    expect(figures.arrivals, 'requests that arrived').toBeGreaterThan(200);
  },
  { timeoutMs: 90_000 },
);
