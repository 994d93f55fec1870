import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './hello-fuzz.ts';

verifies(
  'fuzz.hello',
  'thousands of mutated hellos of TLS: their name is the one that OpenSSL reads, or they are refused',
  async () => {
    const figures = await prove({ scale: 1 / 50, seed: 11 });
    expect(figures.cases).toBeGreaterThan(5_000);
    expect(figures.sorts['hello, OpenSSL: a name'], 'names that both read').toBeGreaterThan(100);
  },
  { timeoutMs: 60_000 },
);
