import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';
import { verifies } from '../../verifies.ts';
import { freshDir } from '../ledger/ledgers.ts';

const ROUNDS = 400;
const LOCK = new URL('../../../src/control/lock.ts', import.meta.url).href;
// Both wait for each other before each round, so that they ask at the same moment.
const ASKER = `
import { parentPort, workerData } from 'node:worker_threads';
import { takeLock } from '${LOCK}';
const { dir, met } = workerData;
const results = [];
for (let round = 0; round < ${ROUNDS}; round++) {
  Atomics.add(met, 0, 1);
  while (Atomics.load(met, 0) < 2 * round + 2) ;
  try { takeLock(dir + '/' + round)[Symbol.dispose](); results.push('taken') }
  catch (error) { results.push(error.code) }
}
parentPort.postMessage(results);`;

verifies(
  'daemon.race',
  'of two that take the lock at the same moment one has it, and the other after it',
  async () => {
    const met = new Int32Array(new SharedArrayBuffer(4));
    const workerData = { dir: freshDir(), met };
    const url = new URL(`data:text/javascript,${encodeURIComponent(ASKER)}`);
    const askers = [1, 2].map(() => new Worker(url, { workerData }));
    const heard = await Promise.all(
      askers.map(
        (asker) =>
          new Promise<readonly string[]>((resolve, reject) => {
            asker.once('message', resolve).once('error', reject);
          }),
      ),
    );
    const refused = heard.flat().filter((result) => result !== 'taken');
    expect(refused).toEqual([]);
    expect(heard.flat().length).toBe(2 * ROUNDS);
  },
  { timeoutMs: 60_000 },
);
