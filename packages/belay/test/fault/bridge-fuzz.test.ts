import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './bridge-fuzz.ts';

verifies(
  'bridge.fuzz',
  'thousands of hostile datagrams and connections: the bridge lives, and serves in between',
  async () => {
    const figures = await prove({ scale: 1 / 50, seed: 11 });
    expect(figures.datagrams).toBeGreaterThan(2_000);
    expect(figures.connections).toBeGreaterThan(2_000);
    expect(figures.names, 'names that were let through').toBeGreaterThan(100);
  },
  { timeoutMs: 90_000 },
);
