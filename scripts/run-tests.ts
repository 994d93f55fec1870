// Starts vitest in a tree and reads what it found. Bounded: a run that takes too long is ended with
// everything it started, and that is a problem like any other.

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Results, readResults } from '../packages/belay/test/results.ts';

export interface TestRun {
  readonly root: string;
  readonly projects: readonly string[];
  /** Files, as vitest filters them. */
  readonly files?: readonly string[];
  /** Only the tests that cite one of these. */
  readonly ids?: readonly string[];
  /** Stop at the first failure. */
  readonly bail?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  /** Where the results go. */
  readonly into: string;
  readonly timeoutMs: number;
  /** The terminal, or nothing: then `output` holds what was printed. */
  readonly quiet?: boolean;
  /** Become this uid first. */
  readonly uid?: number;
}

export interface Ran {
  readonly results: Results;
  readonly output: string;
}

export async function runTests(run: TestRun): Promise<Ran> {
  rmSync(run.into, { force: true });
  const args = ['run', '--passWithNoTests', ...run.projects.flatMap((name) => ['--project', name])];
  if (run.ids !== undefined) args.push('-t', patternFor(run.ids));
  if (run.bail) args.push('--bail=1');
  const become =
    run.uid === undefined
      ? []
      : ['setpriv', '--reuid', `${run.uid}`, '--regid', `${run.uid}`, '--clear-groups', '--'];
  const command = [
    ...become,
    nodeOf(run.root),
    join(run.root, 'node_modules/vitest/vitest.mjs'),
    ...args,
    ...(run.files ?? []),
  ];
  const child = spawn(command[0] as string, command.slice(1), {
    cwd: run.root,
    // A group of its own, so that the time limit reaches the workers too.
    detached: true,
    env: { ...process.env, BELAY_RESULTS: run.into, BELAY_TREE: treeDigest(run.root), ...run.env },
    stdio: ['ignore', run.quiet ? 'pipe' : 'inherit', run.quiet ? 'pipe' : 'inherit'],
  });
  const { output, late } = await ended(child, run.timeoutMs);
  const problems: string[] = [];
  if (late) problems.push(`the tests took more than ${run.timeoutMs / 1000} s`);
  if (!existsSync(run.into)) {
    problems.push('vitest left no results');
    return { results: { tree: '', tests: [], problems }, output };
  }
  const results = readResults(run.into);
  return { results: { ...results, problems: [...results.problems, ...problems] }, output };
}

/** The tree's own Node: another uid may not be able to reach ours. */
function nodeOf(root: string): string {
  const own = join(root, 'node_modules/.bin/node');
  return existsSync(own) ? own : process.execPath;
}

async function ended(
  child: ChildProcess,
  timeoutMs: number,
): Promise<{ readonly output: string; readonly late: boolean }> {
  const chunks: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => chunks.push(chunk));
  const pass = (signal: NodeJS.Signals) => endGroup(child, signal);
  process.on('SIGINT', pass).on('SIGTERM', pass);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    endGroup(child, 'SIGKILL');
  }, timeoutMs);
  await new Promise<void>((resolve, reject) =>
    child.once('error', reject).once('close', () => resolve()),
  );
  clearTimeout(timer);
  process.off('SIGINT', pass).off('SIGTERM', pass);
  return { output: Buffer.concat(chunks).toString(), late };
}

function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Matches the names of the tests that cite one of the ids. */
export function patternFor(ids: readonly string[]): string {
  const any = ids.map((id) => RegExp.escape(id)).join('|');
  return `\\[([^\\]]* )?(${any})( [^\\]]*)?\\] `;
}

/** Digest of what the tests of a tree depend on. */
export function treeDigest(root: string): string {
  const digest = createHash('sha256');
  const files = globSync(
    ['packages/*/{src,test,bin}/**', 'packages/*/package.json', 'package-lock.json', '*.{json,ts}'],
    { cwd: root, withFileTypes: true },
  )
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const file of files) {
    const bytes = readFileSync(file);
    digest.update(`${file.slice(root.length)}\0${bytes.length}\0`).update(bytes);
  }
  return digest.digest('hex');
}
