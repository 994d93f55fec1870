// `npm run requirements`: the table of what is promised and which tests show it. With ids, runs the
// tests that cite them, and fails when an id is unknown, has no test, or its test was skipped without
// a reason or failed.
//
//   node scripts/requirements.ts [ID...]

import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { type Citation, citationsBelow, isRequirement } from '../packages/belay/test/citations.ts';
import { installPacked, ROOT } from '../packages/belay/test/packed.ts';
import { type Requirement, requirements } from '../packages/belay/test/requirements.ts';
import {
  closing,
  idsOf,
  readResults,
  type TestResult,
  tallyOf,
} from '../packages/belay/test/results.ts';
import { runTests } from './run-tests.ts';

const TESTS = join(ROOT, 'packages/belay/test');
const RESULTS = join(ROOT, '.cache/results');
const TIMEOUT_MS = 15 * 60_000;

function printTable(citations: readonly Citation[]): void {
  const last = globSync('*.json', { cwd: RESULTS }).flatMap(
    (name) => readResults(join(RESULTS, name)).tests,
  );
  const rows = Object.entries<Requirement>(requirements).map(([id, { behaviour, planned }]) => {
    const files = citations.filter((citation) => citation.id === id).map(({ file }) => file);
    const state = planned ? 'planned' : files.length === 0 ? 'no test' : stateOf(id, last);
    return [id, behaviour, files.join(' ') || '-', state] as const;
  });
  const table = [['id', 'behaviour', 'tests', 'state'] as const, ...rows];
  const widths = [0, 1, 2].map((column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  );
  for (const row of table) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
    process.stdout.write(`${cells.join('  ').trimEnd()}\n`);
  }
}

/** What the last run of tests said, which may be older than the code. */
function stateOf(id: string, tests: readonly TestResult[]): string {
  const mine = tests.filter(({ name }) => idsOf(name).includes(id));
  if (mine.length === 0) return 'not run';
  if (mine.some(({ state }) => state === 'failed')) return 'failed';
  return mine.every(({ state }) => state === 'skipped') ? 'skipped' : 'passed';
}

async function runCited(ids: readonly string[], citations: readonly Citation[]): Promise<void> {
  const problems = ids.filter((id) => !isRequirement(id)).map((id) => `no requirement \`${id}\``);
  const cited = citations.filter(({ id }) => ids.includes(id));
  const files = new Set(
    cited.map(({ file }) => join(TESTS, file.endsWith('.txt') ? 'scripts/scripts.test.ts' : file)),
  );
  const into = join(ROOT, '.cache/requirements.json');
  const none = { tree: '', tests: [], problems: [] };
  const { results } =
    files.size === 0
      ? { results: none }
      : await runTests({
          root: ROOT,
          projects: ['unit', 'system', 'agents'],
          files: [...files],
          ids,
          env: existsSync(join(ROOT, 'packages/belay/dist/cli/main.js'))
            ? { BELAY_INSTALLED: await installPacked() }
            : {},
          into,
          timeoutMs: TIMEOUT_MS,
        });
  const tests = results.tests.filter(({ name }) => idsOf(name).some((id) => ids.includes(id)));
  for (const id of ids) {
    if (!tests.some(({ name }) => idsOf(name).includes(id))) problems.push(`\`${id}\` has no test`);
  }
  const found = { tree: '', tests, problems: [...problems, ...results.problems] };
  process.stdout.write(closing(found));
  process.exitCode = tallyOf(found).failed === 0 ? 0 : 1;
}

const ids = process.argv.slice(2);
const citations = citationsBelow(TESTS);
if (ids.length === 0) printTable(citations);
else await runCited(ids, citations);
