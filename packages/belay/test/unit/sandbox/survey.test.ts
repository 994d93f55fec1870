import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { changesBetween } from '../../../src/sandbox/changes.ts';
import { surveyWorkspace } from '../../../src/sandbox/survey.ts';
import { verifies } from '../../verifies.ts';

let workdir: string;
const at = (path: string): string => join(workdir, path);
const put = (path: string, text = ''): void => {
  mkdirSync(join(at(path), '..'), { recursive: true });
  writeFileSync(at(path), text);
};

beforeEach(() => {
  workdir = realpathSync(mkdtempSync(join(tmpdir(), 'belay-survey-')));
});
afterEach(() => rmSync(workdir, { recursive: true, force: true }));

verifies(
  'fsw.nested-git',
  'repositories are found at any depth, and links are not followed',
  () => {
    for (const path of ['.git', 'a/.git', 'a/b/c/.git', 'node_modules/x/.git']) {
      put(`${path}/config`);
    }
    put('worktree/.git', 'gitdir: ../.git/worktrees/w\n');
    symlinkSync('a', at('link'));
    symlinkSync('.', at('loop'));
    const { repositories, unwalked } = surveyWorkspace(workdir);
    expect([...repositories].sort()).toEqual(['a', 'a/b/c', 'node_modules/x', 'worktree']);
    expect(unwalked).toBe(0);
  },
);

verifies(
  'fsw.nested-git',
  'what there was no time for is counted, and large folders come last',
  () => {
    for (let i = 0; i < 40; i++) put(`node_modules/p${i}/index.js`);
    put('src/deep/.git/config');
    const survey = surveyWorkspace(workdir, new Set(), {
      entries: 60,
      ms: 10_000,
      repositories: 64,
    });
    expect(survey.repositories).toEqual(['src/deep']);
    expect(survey.unwalked).toBeGreaterThan(10);
    const late = surveyWorkspace(workdir, new Set(), { entries: 60, ms: -1, repositories: 64 });
    expect(late).toMatchObject({ repositories: [], unwalked: 1 });
  },
);

verifies(
  'fsw.nested-git',
  'folders that are called .git and hold no HEAD take no place from repositories',
  () => {
    for (let i = 0; i < 40; i++) mkdirSync(at(`${i}/.git`), { recursive: true });
    put('a/b/real/.git/HEAD', 'ref: refs/heads/main\n');
    put('a/b/tree/.git', 'gitdir: ../real/.git/worktrees/tree\n');
    const { repositories, unwalked, whole } = surveyWorkspace(workdir);
    expect(repositories).toHaveLength(32);
    expect(repositories.slice(0, 2).sort()).toEqual(['a/b/real', 'a/b/tree']);
    expect({ unwalked, whole }).toEqual({ unwalked: 10, whole: true });
  },
);

verifies(
  'fsw.nested-git',
  'a folder whose name is no text counts as one that was not searched, whatever lies beside it',
  () => {
    const unnamed = Buffer.concat([Buffer.from(at('name-')), Buffer.of(0xff)]);
    mkdirSync(Buffer.concat([unnamed, Buffer.from('/.git')]), { recursive: true });
    expect(surveyWorkspace(workdir)).toMatchObject({ unwalked: 1, whole: false });
    mkdirSync(at('name-\ufffd'));
    expect(surveyWorkspace(workdir)).toMatchObject({ unwalked: 2, whole: false });
  },
);

verifies('fsw.changes', 'a change is seen also when its time and size are set back', async () => {
  put('package.json', '{"a":1}');
  put('Makefile', 'all:\n');
  put('tools/run.sh', 'true\n');
  put('src/index.js', 'x');
  const when = new Date(1_700_000_000_000);
  utimesSync(at('package.json'), when, when);
  const before = surveyWorkspace(workdir);
  expect(changesBetween(before, surveyWorkspace(workdir))).toEqual([]);
  // A tick of the clock that stamps inodes.
  await sleep(20);
  put('package.json', '{"a":2}');
  utimesSync(at('package.json'), when, when);
  rmSync(at('Makefile'));
  put('src/index.js', 'y');
  put('.git/hooks/pre-commit', 'evil');
  put('names\nwith/newline.sh', 'x');
  expect(changesBetween(before, surveyWorkspace(workdir))).toEqual([
    { path: '.git', how: 'added' },
    { path: 'package.json', how: 'changed' },
    { path: 'Makefile', how: 'removed' },
    { path: '.git/hooks/pre-commit', how: 'added' },
    { path: 'names\nwith/newline.sh', how: 'added' },
  ]);
});

verifies(
  ['fsw.changes', 'fsw.new-repository'],
  'every repository that came to be is told first, whatever its `.git` is and wherever it leads',
  () => {
    put('old/.git/HEAD', 'ref: refs/heads/main\n');
    put('old/.git/config', '[core]\n');
    const before = surveyWorkspace(workdir);
    // What git does in its folder changes nothing that git obeys.
    put('old/.git/index', 'x');
    mkdirSync(at('empty/.git'), { recursive: true });
    put('a/setup.sh');
    put('folder/.git/HEAD', 'ref: refs/heads/main\n');
    put('folder/.git/hooks/pre-commit.sample');
    put('file/.git', 'gitdir: ../data/store\n');
    put('data/store/config', '[core]\n');
    for (const name of ['objects', 'refs']) mkdirSync(at(`data/store/${name}`));
    put('tree/commondir', '../data/store\n');
    put('tree/config.worktree', '[core]\n');
    mkdirSync(at('linked'));
    symlinkSync('../data/store', at('linked/.git'));
    const added = ['file/.git', 'folder/.git', 'linked/.git', 'a/setup.sh', 'data/store/config'];
    expect(changesBetween(before, surveyWorkspace(workdir))).toEqual(
      [...added, 'tree/commondir', 'tree/config.worktree'].map((path) => ({ path, how: 'added' })),
    );
  },
);

verifies(
  'fsw.own-policy',
  'what says what a run may do, and what agents and editors obey, is told in every folder',
  () => {
    put('packages/x/index.js');
    const before = surveyWorkspace(workdir, new Set([at('packages/.npmrc')]));
    const first = ['packages/x/belay.jsonc', 'packages/x/rules/web.cedar'];
    const rest = [
      ...['.claude/skills/one/SKILL.md', '.codex/config.toml', '.cursor/rules/a.mdc'],
      ...['.devcontainer/devcontainer.json', '.gemini/settings.json', '.github/workflows/ci.yml'],
      ...['.gitlab-ci.yml', '.husky/pre-commit', '.idea/workspace.xml', '.pnpmfile.cjs'],
      ...['.pre-commit-config.yaml', '.vscode/tasks.json', '.yarnrc.yml', 'bunfig.toml'],
      ...['opencode.json'],
    ].map((name) => `packages/x/${name}`);
    for (const path of [...first, ...rest]) put(path);
    for (const path of ['x/.github/notes.txt', 'x/claude/notes.txt', '.npmrc']) {
      put(`packages/${path}`);
    }
    const after = surveyWorkspace(workdir, new Set([at('packages/.npmrc')]));
    expect(changesBetween(before, after)).toEqual(
      [...first, ...rest].map((path) => ({ path, how: 'added' })),
    );
  },
);

verifies(
  'unix.workspace',
  'pipes are found at any depth, and those beyond the bound are counted',
  () => {
    const names = Array.from({ length: 70 }, (_, i) => at(`a/b/${i}`));
    mkdirSync(at('a/b'), { recursive: true });
    mkdirSync(at('a/.git'));
    execFileSync('mkfifo', [at('a/.git/first'), ...names]);
    const { pipes, unwalked, whole } = surveyWorkspace(workdir);
    expect(pipes).toHaveLength(64);
    expect(pipes).toContain('a/.git/first');
    expect({ unwalked, whole }).toEqual({ unwalked: 7, whole: true });
  },
);

test('a workspace that cannot be read is an empty survey', () => {
  expect(surveyWorkspace(at('missing'))).toMatchObject({ repositories: [], unwalked: 0 });
});
