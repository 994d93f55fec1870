import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './dns-fuzz.ts';

verifies(
  'fuzz.dns',
  "hundreds of thousands of packets at the bridge's DNS: each is read as another reader reads it, or has no answer",
  async () => {
    const figures = await prove({ scale: 1 / 50, seed: 11 });
    expect(figures.cases).toBeGreaterThan(50_000);
    expect(figures.sorts['a host of 2'], 'questions that have an answer').toBeGreaterThan(100);
  },
  { timeoutMs: 60_000 },
);
