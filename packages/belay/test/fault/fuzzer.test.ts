import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { fuzz, type Judge } from './fuzzer.ts';

const NAME = `own-${process.pid}`;
const FOLDER = join(import.meta.dirname, 'corpus', NAME);

afterEach(() => rmSync(FOLDER, { recursive: true, force: true }));

const HIT = 'xyz';
const FINDS: Readonly<Record<string, Judge>> = {
  'a problem': (input) => (input.includes(HIT) ? { problem: 'too bad' } : { sort: 'fine' }),
  'a throw': (input) => {
    if (input.includes(HIT)) throw new RangeError('too bad');
    return { sort: 'fine' };
  },
};

for (const [what, judge] of Object.entries(FINDS)) {
  verifies(
    'fuzz.kept',
    `${what} ends the run, and the next one begins with its input`,
    async () => {
      mkdirSync(FOLDER);
      writeFileSync(join(FOLDER, 'seed'), 'abc');
      const run = () =>
        fuzz({ name: NAME, words: [HIT], judges: [judge] }, { seconds: 10, seed: 5 });
      await expect(run()).rejects.toThrow(/too bad \(seed 5, lane 0, case \d+, kept as .*own-/);
      const kept = readdirSync(FOLDER).filter((file) => file !== 'seed');
      expect(kept).toHaveLength(1);
      expect(readFileSync(join(FOLDER, kept[0] as string), 'latin1')).toContain(HIT);
      await expect(run()).rejects.toThrow(/case [01],/);
    },
  );
}
