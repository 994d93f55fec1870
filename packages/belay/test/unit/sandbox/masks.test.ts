// What is planned for a workspace, on real folders.

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { planMasks, removePlaceholders } from '../../../src/sandbox/masks.ts';
import { verifies } from '../../verifies.ts';

let workdir: string;
beforeEach(() => {
  workdir = mkdtempSync(join(tmpdir(), 'belay-masks-'));
});
afterEach(() => rmSync(workdir, { recursive: true }));

const at = (path: string) => join(workdir, path);
const put = (path: string, text = '') => {
  mkdirSync(join(at(path), '..'), { recursive: true });
  writeFileSync(at(path), text);
};
const plan = (callerHome = '/nowhere', canWrite = () => true) =>
  planMasks({ workdir, callerHome, canWrite, shared: [] });

verifies(
  'fsw.git-hooks',
  'in a repository, hooks and settings are read-only and .git is pinned',
  () => {
    put('.git/hooks/pre-commit');
    put('.git/config');
    put('.git/info/exclude');
    const { pins, readOnly, placeholders } = plan();
    expect(readOnly).toEqual(expect.arrayContaining([at('.git/hooks'), at('.git/config')]));
    expect(pins).toEqual([at('.git'), at('.git/info')]);
    const made = placeholders.map(({ path }) => path);
    expect(made).toContain(at('.git/info/attributes'));
    expect(made).toContain(at('.git/commondir'));
    expect(made).not.toContain(at('.git/modules'));
  },
);

verifies('fsw.git-hooks', 'without a repository, .git cannot come to be', () => {
  const { readOnly, placeholders } = plan();
  expect(readOnly).toContain(at('.git'));
  expect(placeholders.filter(({ path }) => path.startsWith(at('.git/')))).toEqual([]);
  expect(placeholders).toContainEqual({ path: at('.git'), kind: 'dir', content: '' });
});

verifies(
  'fsw.worktrees',
  'what names the settings of a linked worktree is read-only, and all of them when there are too many',
  () => {
    for (const name of ['commondir', 'gitdir', 'HEAD'])
      put(`.git/worktrees/one/${name}`, '../..\n');
    const { pins, readOnly, placeholders } = plan();
    const inside = (name: string) => at(`.git/worktrees/one/${name}`);
    expect(pins).toEqual(expect.arrayContaining([at('.git/worktrees'), at('.git/worktrees/one')]));
    const closed = readOnly.filter((path) => path.startsWith(inside('')));
    expect(closed.sort()).toEqual(['commondir', 'config.worktree', 'gitdir'].map(inside));
    expect(placeholders.map(({ path }) => path)).toContain(inside('config.worktree'));

    for (let i = 0; i < 40; i++) put(`.git/worktrees/${i}/commondir`);
    expect(plan().readOnly).toContain(at('.git/worktrees'));
    rmSync(at('.git/worktrees'), { recursive: true });
    mkdirSync(at('.git/worktrees'));
    symlinkSync('/tmp', at('.git/worktrees/one'));
    expect(() => plan()).toThrow(/`.*worktrees\/one` is a symbolic link/);
  },
);

test("a worktree's .git, which is a file, is read-only", () => {
  put('.git', 'gitdir: /elsewhere\n');
  const { pins, readOnly } = plan();
  expect(readOnly).toContain(at('.git'));
  expect(pins).not.toContain(at('.git'));
});

test('only the first missing part of a name is masked, and existing parts are pinned', () => {
  expect(plan().readOnly).toContain(at('.github'));
  mkdirSync(at('.github'));
  const { pins, readOnly } = plan();
  expect(pins).toContain(at('.github'));
  expect(readOnly).toContain(at('.github/workflows'));
});

verifies('run.bad-workspace', 'a protected name that is a symbolic link refuses the run', () => {
  symlinkSync('/etc', at('.claude'));
  expect(() => plan()).toThrow(/`.*\.claude` is a symbolic link/);
  rmSync(at('.claude'));
  symlinkSync('/nowhere', at('.git'));
  expect(() => plan()).toThrow(/`.*\.git` is a symbolic link/);
});

test("another run's placeholders are masked, not taken for the user's own", () => {
  mkdirSync(at('.git'));
  const shared = [{ path: at('.git'), kind: 'dir', content: '' }] as const;
  const { readOnly, placeholders, pins } = planMasks({
    ...{ workdir, callerHome: '/nowhere', canWrite: () => true, shared },
  });
  expect(readOnly).toContain(at('.git'));
  expect(pins).not.toContain(at('.git'));
  expect(placeholders).toContainEqual(shared[0]);
  expect(placeholders.some(({ path }) => path.startsWith(at('.git/')))).toBe(false);
});

test('in a folder that the agent cannot write nothing needs a mask', () => {
  put('.npmrc');
  const { readOnly, placeholders } = plan('/nowhere', () => false);
  expect(placeholders).toEqual([]);
  expect(readOnly).toEqual([at('.npmrc')]);
});

test("shell start files are masked in the caller's home and left alone elsewhere", () => {
  expect(plan().readOnly).not.toContain(at('.bashrc'));
  expect(plan(workdir).readOnly).toContain(at('.bashrc'));
  put('.bashrc');
  expect(plan().readOnly).toContain(at('.bashrc'));
});

test('files of secrets appear empty, also behind a link within the workspace', () => {
  for (const name of ['.env', '.env.local', '.env.example', 'config/real.env', '.envrc']) put(name);
  symlinkSync('config/real.env', at('.env.production'));
  symlinkSync('/etc/passwd', at('.env.outside'));
  const { shown } = plan();
  expect(shown.map(({ path }) => path).sort()).toEqual(
    [at('.env'), at('.env.local'), at('config/real.env')].sort(),
  );
});

verifies(
  'fsr.secret-file',
  'a file of secrets is pinned where the configuration names it, cannot come to be, and is no link',
  () => {
    const hiding = (...hide: string[]) =>
      planMasks({ workdir, callerHome: '/nowhere', canWrite: () => true, shared: [], hide });
    put('deep/keys/api.txt');
    const { pins, readOnly, shown } = hiding('deep/keys/api.txt');
    expect(pins).toEqual(expect.arrayContaining([at('deep'), at('deep/keys')]));
    expect(readOnly).toContain(at('deep/keys/api.txt'));
    expect(shown).toEqual([{ path: at('deep/keys/api.txt'), content: '' }]);
    expect(hiding('later/key.txt').readOnly).toContain(at('later'));
    symlinkSync('deep', at('linked'));
    expect(() => hiding('linked/keys/api.txt')).toThrow(/`.*linked` is a symbolic link/);
  },
);

test('placeholders that are still what was made are removed, others stay', () => {
  const { placeholders } = plan();
  for (const { path, kind, content } of placeholders) {
    if (kind === 'dir') mkdirSync(path);
    else writeFileSync(path, content);
  }
  put('.envrc', 'mine');
  put('.claude/settings.json', '{}');
  removePlaceholders(workdir, placeholders, new Set([at('.npmrc')]));
  const left = placeholders.map(({ path }) => path).filter((path) => existsSync(path));
  expect(left.sort()).toEqual([at('.claude'), at('.envrc'), at('.npmrc')].sort());
});

test('removal does not follow a link that took the place of a folder', () => {
  mkdirSync(at('outside'));
  put('outside/attributes');
  mkdirSync(at('.git'));
  symlinkSync(at('outside'), at('.git/info'));
  const path = at('.git/info/attributes');
  removePlaceholders(workdir, [{ path, kind: 'file', content: '' }], new Set());
  expect(existsSync(at('outside/attributes'))).toBe(true);
});

test('git works with its placeholders, inside and for others', () => {
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: workdir });
  git('init', '-q');
  for (const { path, kind, content } of plan().placeholders) {
    if (kind === 'dir') mkdirSync(path);
    else writeFileSync(path, content);
  }
  put('a.txt', 'a');
  git('add', 'a.txt');
  git('commit', '-qm', 'one');
  expect(git('log', '--format=%s').toString()).toBe('one\n');
  expect(readFileSync(at('.git/commondir'), 'utf8')).toBe('.\n');
});
