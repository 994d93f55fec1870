// `npm run test:matrix`: what one run as one user cannot show. The system tests again as the other
// uid; and for each mutant, a patch that breaks one guard, that the test of this guard notices. Each
// runs in a copy of the tree. A mutant that survives, or that no longer applies, fails.
//
//   node scripts/matrix.ts [MUTANT...]

import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { citationsBelow } from '../packages/belay/test/citations.ts';
import { ORDINARY_UID, otherUidProblem } from '../packages/belay/test/installed.ts';
import { installBeside, installPacked, ROOT } from '../packages/belay/test/packed.ts';
import {
  closing,
  idsOf,
  type Results,
  readResults,
  recordTally,
  type TestResult,
  tallyOf,
} from '../packages/belay/test/results.ts';
import { parseMutant } from './mutant.ts';
import { runTests, treeDigest } from './run-tests.ts';

const run = promisify(execFile);
const SYSTEM_TIMEOUT_MS = 20 * 60_000;
const MUTANT_TIMEOUT_MS = 5 * 60_000;
const TESTS = 'packages/belay/test';
const SKIPPED_FOLDERS = new Set(['node_modules', '.git', '.cache', 'dist', 'coverage']);
const root = process.getuid?.() === 0;

/** A copy of the tree without what can be made again; the caller removes it. */
function copyTree(): string {
  const copy = mkdtempSync(join(tmpdir(), 'belay-matrix-'));
  // A daemon that root starts runs as another user, who has to reach the program.
  chmodSync(copy, 0o755);
  cpSync(ROOT, copy, {
    recursive: true,
    filter: (path) => !SKIPPED_FOLDERS.has(basename(path)),
    verbatimSymlinks: true,
  });
  return copy;
}

const MODULES = ['node_modules', ...globSync('packages/*/node_modules', { cwd: ROOT })];

/** What `npm test` found in this same tree, or, when it did not run, found now and counted here. */
async function asPresentUser(): Promise<{ readonly results: Results; readonly fresh: boolean }> {
  const path = join(ROOT, '.cache/results/unit-system.json');
  if (existsSync(path)) {
    const results = readResults(path);
    if (results.tree === treeDigest(ROOT)) return { results: systemTests(results), fresh: false };
  }
  const { results } = await runTests({
    root: ROOT,
    projects: ['system'],
    env: { BELAY_INSTALLED: await installPacked() },
    into: join(ROOT, '.cache/results/system.json'),
    timeoutMs: SYSTEM_TIMEOUT_MS,
  });
  return { results: systemTests(results), fresh: true };
}

function systemTests(results: Results): Results {
  const tests = results.tests.filter(({ file }) => !file.startsWith(`${TESTS}/unit/`));
  return { ...results, tests };
}

/** The system tests in a copy that belongs to an ordinary uid, which has a home of its own. */
async function asOtherUid(): Promise<Results> {
  const copy = copyTree();
  try {
    for (const modules of MODULES) {
      cpSync(join(ROOT, modules), join(copy, modules), { recursive: true, verbatimSymlinks: true });
    }
    const installed = dirname(dirname(dirname(dirname(await installPacked()))));
    const place = join(copy, '.cache/installed/copy');
    cpSync(installed, place, { recursive: true, verbatimSymlinks: true });
    cpSync(join(ROOT, 'packages/belay/dist'), join(copy, 'packages/belay/dist'), {
      recursive: true,
    });
    chownTree(copy);
    const { results } = await runTests({
      root: copy,
      projects: ['system'],
      env: {
        HOME: copy,
        BELAY_INSTALLED: join(place, 'node_modules/belayer/bin/belay.js'),
      },
      into: join(copy, '.cache/results.json'),
      timeoutMs: SYSTEM_TIMEOUT_MS,
      uid: ORDINARY_UID,
    });
    return results;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function chownTree(folder: string): void {
  const { status } = spawnSync('chown', ['-R', '-h', `${ORDINARY_UID}:${ORDINARY_UID}`, folder]);
  if (status !== 0) throw new Error(`cannot give \`${folder}\` to uid ${ORDINARY_UID}`);
  chownSync(folder, ORDINARY_UID, ORDINARY_UID);
}

/** Tries a mutant that is built. */
type Try = () => Promise<readonly TestResult[]>;

async function prepare(patch: string): Promise<Try> {
  const startedMs = performance.now();
  const name = basename(patch, '.patch');
  const row = (id: string, state: TestResult['state'], reason?: string): TestResult => ({
    file: patch,
    name: `[${id}] catches the mutant ${name}${state === 'failed' ? `: ${reason}` : ''}`,
    state,
    ...(reason === undefined ? {} : { reason }),
    durationMs: Math.round(performance.now() - startedMs),
  });
  const { ids, files: named, problem } = parseMutant(readFileSync(patch, 'utf8'));
  if (problem !== undefined) return async () => [row(ids.join(' ') || '?', 'failed', problem)];

  const copy = copyTree();
  const failed = (reason: string): Try => {
    rmSync(copy, { recursive: true, force: true });
    return async () => ids.map((id) => row(id, 'failed', reason));
  };
  for (const modules of MODULES) symlinkSync(join(ROOT, modules), join(copy, modules));
  const applied = spawnSync('git', ['apply', '--whitespace=nowarn', patch], {
    cwd: copy,
    encoding: 'utf8',
    // Not a repository, whatever stands above the copy.
    env: { ...process.env, GIT_CEILING_DIRECTORIES: dirname(copy) },
  });
  if (applied.status !== 0) return failed(`no longer applies: ${applied.stderr.trim()}`);
  // Only what the patch changed is built again.
  cpSync(join(ROOT, 'packages/belay/dist'), join(copy, 'packages/belay/dist'), {
    recursive: true,
    preserveTimestamps: true,
  });
  try {
    await run(join(ROOT, 'node_modules/.bin/tsc'), ['-b'], { cwd: copy });
  } catch (error) {
    return failed(`does not build:\n${(error as { stdout?: string }).stdout ?? error}`);
  }

  const cited = citationsBelow(join(copy, TESTS)).filter(
    ({ id, file }) => ids.includes(id) && (named.length === 0 || named.includes(file)),
  );
  const astray = named.find((name) => !cited.some(({ file }) => file === name));
  if (astray !== undefined) return failed(`\`${astray}\` cites none of its ids`);
  const files = cited.map(({ file }) => (file.endsWith('.txt') ? 'scripts/scripts.test.ts' : file));
  return async () => {
    try {
      const { results, output } = await runTests({
        root: copy,
        projects: ['unit', 'system'],
        files: [...new Set(files)].map((file) => join(copy, TESTS, file)),
        ids,
        // One id is answered by its first failure; another id may still need the rest.
        bail: ids.length === 1,
        // Unit tests read the sources; packing for them would only take time.
        env: files.every((file) => file.startsWith('unit/'))
          ? {}
          : { BELAY_INSTALLED: installBeside(await installPacked(), copy) },
        into: join(copy, '.cache/results.json'),
        timeoutMs: MUTANT_TIMEOUT_MS,
        quiet: true,
      });
      // A sandbox that cannot even be built fails every test, and shows nothing about a guard.
      const [problem] = results.problems;
      if (problem !== undefined) {
        process.stdout.write(output);
        return ids.map((id) => row(id, 'failed', `its tests could not run: ${problem}`));
      }
      return ids.map((id) => {
        const mine = results.tests.filter((test) => idsOf(test.name).includes(id));
        const ran = mine.filter(({ state }) => state !== 'skipped');
        if (ran.some(({ state }) => state === 'failed')) return row(id, 'passed');
        const excuse = mine.find(({ reason }) => reason !== undefined)?.reason;
        if (ran.length === 0 && excuse !== undefined) return row(id, 'skipped', excuse);
        process.stdout.write(output);
        return row(id, 'failed', ran.length === 0 ? 'no test of it ran' : 'it survives');
      });
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  };
}

/** Check by { as root, as an ordinary uid, mutant }. */
function printTable(
  present: readonly TestResult[],
  other: Results,
  mutants: readonly TestResult[],
): void {
  const columns = {
    'as root': root ? present : other.tests,
    'as uid': root ? other.tests : present,
    mutant: mutants,
  };
  const all = Object.values(columns).flat();
  const ids = [...new Set(all.flatMap(({ name }) => idsOf(name)))].sort();
  const width = Math.max(6, ...ids.map((id) => id.length));
  const print = (cells: readonly string[]) => {
    const padded = cells.map((cell, i) => cell.padEnd(i === 0 ? width : 9));
    process.stdout.write(`${padded.join('  ').trimEnd()}\n`);
  };
  process.stdout.write('\n');
  print(['check', ...Object.keys(columns)]);
  for (const id of ids) {
    print([id, ...Object.values(columns).map((tests) => cellOf(tests, id))]);
  }
}

function cellOf(tests: readonly TestResult[], id: string): string {
  const states = tests.filter(({ name }) => idsOf(name).includes(id)).map(({ state }) => state);
  if (states.length === 0) return '-';
  if (states.includes('failed')) return 'FAILED';
  return states.every((state) => state === 'skipped') ? 'skipped' : 'ok';
}

async function main(only: readonly string[]): Promise<void> {
  const patches = globSync(`${TESTS}/mutants/*.patch`, { cwd: ROOT })
    .filter((patch) => only.length === 0 || only.includes(basename(patch, '.patch')))
    .sort();
  const problems = only
    .filter((name) => !patches.some((patch) => basename(patch, '.patch') === name))
    .map((name) => `no mutant \`${name}\``);
  if (
    spawnSync('npm', ['run', '--silent', 'build'], { cwd: ROOT, stdio: 'inherit' }).status !== 0
  ) {
    problems.push('`npm run build` failed');
  }

  const uidProblem = otherUidProblem();
  let other: Results = { tree: '', tests: [], problems: [] };
  let present = { results: other, fresh: false };
  if (only.length === 0 && problems.length === 0) {
    present = await asPresentUser();
    if (uidProblem === undefined) other = await asOtherUid();
    else {
      const name = `the system tests as ${root ? 'an ordinary uid' : 'root'}`;
      other = {
        ...other,
        tests: [{ file: '', name, state: 'skipped', reason: uidProblem, durationMs: 0 }],
      };
    }
  }
  const mutants: TestResult[] = [];
  // While one is tried, the next one is built.
  const left = problems.length === 0 ? patches.map((patch) => join(ROOT, patch)) : [];
  let next = left[0] === undefined ? undefined : await prepare(left[0]);
  for (let i = 1; next !== undefined; i++) {
    const following = left[i];
    const [rows, prepared]: [readonly TestResult[], Try | undefined] = await Promise.all([
      next(),
      following === undefined ? undefined : prepare(following),
    ]);
    next = prepared;
    for (const { name, state } of rows) process.stdout.write(`${state}: ${name}\n`);
    mutants.push(...rows);
  }
  printTable(present.results.tests, other, mutants);
  const counted = present.fresh ? [present.results, other] : [other];
  const results = {
    tree: '',
    tests: [...counted.flatMap(({ tests }) => tests), ...mutants],
    problems: [...problems, ...counted.flatMap((run) => run.problems)],
  };
  const tally = tallyOf(results);
  recordTally(tally);
  process.stdout.write(closing(results, tally));
  process.exitCode = tally.failed === 0 ? 0 : 1;
}

await main(process.argv.slice(2));
