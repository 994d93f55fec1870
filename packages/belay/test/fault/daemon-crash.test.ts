import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { crashRounds } from './daemon-crash.ts';

verifies(
  ['log.before-effect', 'log.no-lost-ack'],
  'ten times SIGKILL of the daemon at work: no effect without an intent, nothing acknowledged lost',
  async () => {
    const figures = await crashRounds(10, 7);
    expect(figures).toMatchObject({ effectsWithoutIntent: 0, lostAcknowledged: 0, unsettled: 0 });
    expect(figures.arrivals).toBeGreaterThan(100);
    expect(figures.denials).toBeGreaterThan(30);
    expect(figures.unknown, 'crashes in the middle of calls').toBeGreaterThan(0);
  },
  { timeoutMs: 120_000 },
);
