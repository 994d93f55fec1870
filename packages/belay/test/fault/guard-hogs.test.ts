import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { hogs } from './guard-hogs.ts';

verifies(
  ['guard.no-false-freeze', 'guard.sigstop'],
  'agents at work beside CPU hogs are not frozen in 12 seconds, and are within 700 ms when the daemon is stopped',
  async () => {
    const { runs } = await hogs(12 / 60);
    for (const { falseFreezes, beats } of runs) {
      expect(falseFreezes).toBe(0);
      expect(beats).toBeGreaterThan(100);
    }
  },
  { timeoutMs: 90_000 },
);
