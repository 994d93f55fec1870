import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './gateway-leak.ts';

verifies(
  'gw.leak',
  'after two thousand mixed connections no descriptor, upstream connection or open intent stays',
  async () => {
    const figures = await prove({ scale: 1 / 50 });
    expect(figures.connections).toBe(2_000);
    expect(figures.intents).toBeGreaterThan(500);
  },
  { timeoutMs: 180_000 },
);
