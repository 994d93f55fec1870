// One bounded look at a workspace: which repositories, sockets and pipes lie in it, and which of its
// files someone else would run or obey. Taken again at the end of a run, it tells what changed, new
// repositories among it. Links are not followed, nothing is opened, and an agent cannot forge what is
// compared: a file's inode and change time.

import { type BigIntStats, type Dirent, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PROTECTED } from './protected.ts';

export interface Survey {
  /** Folders below the workspace that hold a `.git`, relative to it. */
  readonly repositories: readonly string[];
  /** Stamps by path, relative to the workspace. */
  readonly executed: ReadonlyMap<string, string>;
  /** They may lead to processes of the host. */
  readonly sockets: readonly string[];
  readonly pipes: readonly string[];
  /** Folders that there was no time to look into, and what was found beyond the bounds. */
  readonly unwalked: number;
  /** Whether no folder was left out, and no file of those above. */
  readonly whole: boolean;
}

export interface SurveyBounds {
  readonly entries: number;
  readonly ms: number;
  /** Each becomes some thirty mounts, and thirty names that are looked after. */
  readonly repositories: number;
}

const BOUNDS: SurveyBounds = { entries: 50_000, ms: 300, repositories: 32 };
/** Folders above the repositories, of all of them together: each is a mount, too. */
const MOST_ANCESTORS = 256;
const MOST_EXECUTED = 20_000;
const MOST_SOCKETS = 256;
const MOST_PIPES = 64;

/** Protected at the top and in repositories. Elsewhere an agent can make them; policies are known by
 * their ending. */
const OBEYED = PROTECTED.filter(
  ({ path, missing }) => missing === 'mask' && !/^(?:\.git\/|policies$)/.test(path),
);
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
  ...['.gitattributes', '.gitmodules', '.lfsconfig'],
  ...OBEYED.filter(({ kind }) => kind === 'file').map(({ path }) => path),
]);
const OBEYED_FOLDERS = OBEYED.filter(({ kind }) => kind === 'dir').map(({ path }) => `/${path}/`);
const EXECUTED_ENDINGS =
  /(?:^|[./-])config\.(?:js|cjs|mjs|ts|cts|mts)$|\.(?:sh|mk|gradle|ps1|bat|cmd|cedar)$/;
/** In a git folder: what names programs that git runs, or another folder with such settings. */
const GIT_SETTINGS = [
  ...['config', 'config.worktree', 'commondir', 'info/attributes', 'rebase-merge/git-rebase-todo'],
];
/** Looked into last: large, and seldom of interest. */
const LAST = new Set(['node_modules', '.venv', 'venv', 'target', 'vendor', '.cache']);

/** `except` are placeholders of runs: nobody's files. */
export function surveyWorkspace(
  workdir: string,
  except: ReadonlySet<string> = new Set(),
  bounds: SurveyBounds = BOUNDS,
): Survey {
  const repositories: string[] = [];
  // A `.git` without a HEAD is none yet: any number of them must not take the places of others.
  const hollow: string[] = [];
  const executed = new Map<string, string>();
  const sockets: string[] = [];
  const pipes: string[] = [];
  const until = performance.now() + bounds.ms;
  const first = createQueue();
  const last = createQueue();
  first.add('');
  let entries = 0;
  let closed = 0;
  let beyond = 0;
  let full = false;
  const late = (): boolean => entries >= bounds.entries || performance.now() > until;

  const look = (folder: string, deeper: Queue): void => {
    let found: Dirent[];
    try {
      found = readdirSync(join(workdir, folder), { withFileTypes: true });
    } catch (error) {
      if (mayBeOpened(join(workdir, folder), error)) closed += 1;
      return;
    }
    entries += found.length + 1;
    const inGit = folder === '.git' || folder.endsWith('/.git');
    if (inGit && found.length > 0) note(folder);
    const place = `/${folder}/`;
    const obeyed = OBEYED_FOLDERS.some((name) => place.includes(name));
    if (inGit || servesGit(found)) noteSettings(folder);
    for (const entry of found) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.isSocket()) keep(sockets, path, MOST_SOCKETS);
      if (entry.isFIFO()) keep(pipes, path, MOST_PIPES);
      if (entry.name === '.git') {
        const real = !entry.isDirectory() || statsOf(join(workdir, path, 'HEAD')) !== undefined;
        if (folder !== '') (real ? repositories : hollow).push(folder);
        if (entry.isDirectory()) deeper.add(path);
        else note(path);
      } else if (inGit) continue;
      // A name that is no text comes as another, which opens nothing, or another folder.
      else if (entry.isDirectory() && entry.name.includes('\ufffd')) closed += 1;
      else if (entry.isDirectory()) (LAST.has(entry.name) ? last : deeper).add(path);
      else if (obeyed || EXECUTED.has(entry.name) || EXECUTED_ENDINGS.test(entry.name)) note(path);
    }
  };
  const keep = (list: string[], path: string, most: number): void => {
    if (list.length < most) list.push(path);
    else beyond += 1;
  };
  const note = (path: string): void => {
    if (executed.size >= MOST_EXECUTED) {
      full = true;
      return;
    }
    const file = join(workdir, path);
    const found = except.has(file) ? undefined : statsOf(file);
    if (found !== undefined) executed.set(path, stampOf(found));
  };
  const noteSettings = (git: string): void => {
    for (const name of GIT_SETTINGS) note(`${git}/${name}`);
    try {
      for (const hook of readdirSync(join(workdir, git, 'hooks'))) {
        // What every new repository brings along, and git never runs.
        if (!hook.endsWith('.sample')) note(`${git}/hooks/${hook}`);
      }
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
  const kept = withinBounds([...repositories, ...hollow], bounds.repositories);
  beyond += repositories.length + hollow.length - kept.length;
  const left = first.size() + last.size() + closed;
  return {
    repositories: kept,
    executed,
    sockets,
    pipes,
    unwalked: left + beyond,
    whole: left === 0 && !full,
  };
}

/** The first, as far as mounts can be made for them. */
function withinBounds(repositories: readonly string[], most: number): readonly string[] {
  let [kept, ancestors] = [0, 0];
  return repositories.filter((folder) => {
    const depth = folder.split('/').length;
    if (kept >= most || ancestors + depth > MOST_ANCESTORS) return false;
    kept += 1;
    ancestors += depth;
    return true;
  });
}

/** A repository under any name, to which a `.git` that is a file or a link can lead. */
function servesGit(found: readonly Dirent[]): boolean {
  const has = (name: string): boolean => found.some((entry) => entry.name === name);
  return has('commondir') || (has('objects') && has('refs'));
}

/** A folder is as new as its inode: whatever is made in it changes its times. */
function stampOf(found: BigIntStats): string {
  return found.isDirectory() ? `${found.ino}` : `${found.ino} ${found.ctimeNs} ${found.size}`;
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
