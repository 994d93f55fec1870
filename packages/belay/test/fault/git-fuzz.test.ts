import { spawnSync } from 'node:child_process';
import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { prove } from './git-fuzz.ts';

const hasGit = spawnSync('git', ['--version']).status === 0;

verifies(
  'fuzz.git',
  'hundreds of mutated pushes: their refs are those that git would change, and no ancestry is made up',
  async () => {
    const figures = await prove({ scale: 1 / 50, seed: 11 });
    expect(figures.cases).toBeGreaterThan(200);
    expect(figures.shown, 'fast-forwards that the reader saw').toBeGreaterThan(30);
    expect(figures.git.refs, 'refs that git was asked to change').toBeGreaterThan(30);
    expect(figures.git.fastForwards, 'of them fast-forwards to git').toBeGreaterThan(10);
  },
  { timeoutMs: 90_000, skip: hasGit ? undefined : 'no git on this host' },
);
