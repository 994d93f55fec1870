// One bounded look at a workspace: which repositories lie in it, and which of its files someone else
// would run or obey. Taken again at the end of a run, it tells what changed. Links are not followed,
// nothing is opened, and an agent cannot forge what is compared: a file's inode and change time.

import { type BigIntStats, type Dirent, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

export interface Survey {
  /** Folders below the workspace that hold a `.git`, relative to it. */
  readonly repositories: readonly string[];
  /** Stamps by path, relative to the workspace. */
  readonly executed: ReadonlyMap<string, string>;
  /** Folders that there was no time to look into, and repositories beyond the bounds. */
  readonly unwalked: number;
}

export interface SurveyBounds {
  readonly entries: number;
  readonly ms: number;
  /** Each becomes some thirty mounts, and the time to make mounts grows with their square. */
  readonly repositories: number;
}

const BOUNDS: SurveyBounds = { entries: 50_000, ms: 300, repositories: 32 };
/** Folders above the repositories, of all of them together: each is a mount, too. */
const MOST_ANCESTORS = 256;
const MOST_EXECUTED = 20_000;

/** Files that a build, a package manager, a test run, a shell or the next agent executes or obeys. */
const EXECUTED = new Set([
  ...['package.json', 'package-lock.json', 'npm-shrinkwrap.json', 'yarn.lock', 'pnpm-lock.yaml'],
  ...['bun.lock', 'bun.lockb', 'deno.json', 'deno.lock', 'lerna.json', 'turbo.json', 'nx.json'],
  ...[
    'Makefile',
    'makefile',
    'GNUmakefile',
    'justfile',
    'Justfile',
    'Taskfile.yml',
    'CMakeLists.txt',
  ],
  ...[
    'configure',
    'build.rs',
    'Cargo.toml',
    'Cargo.lock',
    'go.mod',
    'go.sum',
    'Rakefile',
    'Gemfile',
  ],
  ...['setup.py', 'setup.cfg', 'pyproject.toml', 'tox.ini', 'noxfile.py', 'conftest.py', 'Pipfile'],
  ...[
    'requirements.txt',
    'poetry.lock',
    'uv.lock',
    'Gemfile.lock',
    'composer.json',
    'composer.lock',
  ],
  ...['pom.xml', 'build.gradle', 'build.gradle.kts', 'settings.gradle', 'gradlew', 'mvnw'],
  ...['Dockerfile', 'Containerfile', 'docker-compose.yml', 'docker-compose.yaml', 'compose.yaml'],
  ...[
    'compose.yml',
    'Procfile',
    'Vagrantfile',
    'Jenkinsfile',
    'flake.nix',
    'shell.nix',
    'default.nix',
  ],
  ...['CLAUDE.md', 'CLAUDE.local.md', 'AGENTS.md', 'GEMINI.md', '.cursorrules', '.windsurfrules'],
  ...['.gitattributes', '.gitmodules', '.lfsconfig', '.npmrc', '.envrc', '.mcp.json'],
]);
const EXECUTED_ENDINGS =
  /(?:^|[./-])config\.(?:js|cjs|mjs|ts|cts|mts)$|\.(?:sh|mk|gradle|ps1|bat|cmd)$/;
/** Looked into last: large, and seldom of interest. */
const LAST = new Set(['node_modules', '.venv', 'venv', 'target', 'vendor', '.cache']);

export function surveyWorkspace(workdir: string, bounds: SurveyBounds = BOUNDS): Survey {
  const repositories: string[] = [];
  const executed = new Map<string, string>();
  const until = performance.now() + bounds.ms;
  const first = createQueue();
  const last = createQueue();
  first.add('');
  let entries = 0;
  let ancestors = 0;
  let beyond = 0;
  const late = (): boolean => entries >= bounds.entries || performance.now() > until;

  const look = (folder: string, deeper: Queue): void => {
    let found: Dirent[];
    try {
      found = readdirSync(join(workdir, folder), { withFileTypes: true });
    } catch (error) {
      if (mayBeOpened(join(workdir, folder), error)) beyond += 1;
      return;
    }
    entries += found.length + 1;
    for (const entry of found) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.name === '.git') {
        if (folder !== '') noteRepository(folder);
        if (entry.isDirectory()) noteHooks(path);
      } else if (entry.isDirectory()) (LAST.has(entry.name) ? last : deeper).add(path);
      else if (EXECUTED.has(entry.name) || EXECUTED_ENDINGS.test(entry.name)) note(path);
    }
  };
  const noteRepository = (folder: string): void => {
    const depth = folder.split('/').length;
    if (repositories.length >= bounds.repositories || ancestors + depth > MOST_ANCESTORS) {
      beyond += 1;
      return;
    }
    ancestors += depth;
    repositories.push(folder);
  };
  const note = (path: string): void => {
    if (executed.size >= MOST_EXECUTED) return;
    const found = statsOf(join(workdir, path));
    if (found !== undefined) executed.set(path, `${found.ino} ${found.ctimeNs} ${found.size}`);
  };
  const noteHooks = (git: string): void => {
    for (const name of ['config', 'info/attributes']) note(`${git}/${name}`);
    try {
      for (const hook of readdirSync(join(workdir, git, 'hooks'))) note(`${git}/hooks/${hook}`);
    } catch {
      // No hooks: there is nothing to compare.
    }
  };

  while (!late()) {
    const queue = first.size() > 0 ? first : last;
    const folder = queue.take();
    if (folder === undefined) break;
    look(folder, queue);
  }
  const unwalked = first.size() + last.size() + beyond;
  return { repositories, executed, unwalked };
}

function statsOf(path: string): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined; // in a folder that is closed
  }
}

/** Whether a folder that could not be read is one that an agent could open: ours, or too deep. */
function mayBeOpened(path: string, error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return false; // gone in between
  const found = statsOf(path);
  return found === undefined || Number(found.uid) === process.getuid?.();
}

interface Queue {
  add(folder: string): void;
  take(): string | undefined;
  size(): number;
}

/** First in, first out, in constant time. */
function createQueue(): Queue {
  const folders: string[] = [];
  let next = 0;
  return {
    add: (folder) => void folders.push(folder),
    take: () => (next < folders.length ? folders[next++] : undefined),
    size: () => folders.length - next,
  };
}

export interface Change {
  readonly path: string;
  readonly how: 'added' | 'changed' | 'removed';
}

/** What differs; only where both looked. */
export function changesBetween(before: Survey, after: Survey): readonly Change[] {
  const changes: Change[] = [];
  for (const [path, stamp] of after.executed) {
    const was = before.executed.get(path);
    if (was === undefined) changes.push({ path, how: 'added' });
    else if (was !== stamp) changes.push({ path, how: 'changed' });
  }
  if (after.unwalked === 0) {
    for (const path of before.executed.keys()) {
      if (!after.executed.has(path)) changes.push({ path, how: 'removed' });
    }
  }
  return changes.sort((a, b) => (a.path < b.path ? -1 : 1));
}
