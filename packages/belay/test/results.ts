// What a run of tests found, as data: written by the reporter, read by `npm test`, by the matrix and
// by `npm run requirements`. A skip without a reason counts as failed, and so does a run of nothing.

import { appendFileSync, readFileSync } from 'node:fs';

export interface TestResult {
  readonly file: string;
  /** With the ids in front: `[id id] sentence`. */
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped. */
  readonly reason?: string;
  readonly durationMs: number;
}

export interface Results {
  /** Digest of the tree that was tested. */
  readonly tree: string;
  readonly tests: readonly TestResult[];
  /** What failed outside a test: a file that does not load, an error nobody awaited. */
  readonly problems: readonly string[];
}

export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function readResults(path: string): Results {
  return JSON.parse(readFileSync(path, 'utf8')) as Results;
}

/** The ids that a test's name cites. */
export function idsOf(name: string): readonly string[] {
  return /(?:^|> )\[([^\]]+)\] /.exec(name)?.[1]?.split(' ') ?? [];
}

export function tallyOf({ tests, problems }: Results): Tally {
  const count = (keep: (test: TestResult) => boolean): number => tests.filter(keep).length;
  const unexplained = count((test) => test.state === 'skipped' && test.reason === undefined);
  const nothing = tests.length === 0 && problems.length === 0 ? 1 : 0;
  return {
    passed: count((test) => test.state === 'passed'),
    failed: count((test) => test.state === 'failed') + unexplained + problems.length + nothing,
    skipped: count((test) => test.state === 'skipped' && test.reason !== undefined),
  };
}

/** The lines that a run ends with: each skip and each problem, then the total alone. */
export function closing(results: Results, tally: Tally = tallyOf(results)): string {
  const lines = ['', ...results.problems.map((problem) => `failed: ${problem}`)];
  for (const { name, state, reason } of results.tests) {
    if (state === 'failed') lines.push(`failed: ${name}`);
    if (state === 'skipped') {
      lines.push(
        reason === undefined
          ? `failed: skipped without a reason: ${name}`
          : `skipped: ${name}: ${reason}`,
      );
    }
  }
  if (results.tests.length === 0 && results.problems.length === 0)
    lines.push('failed: no test ran');
  return [...lines, totalLine(tally), ''].join('\n');
}

export function totalLine({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** Adds to the sum over several runs, where `BELAY_TALLY` names a file for it. */
export function recordTally(tally: Tally): void {
  const path = process.env.BELAY_TALLY;
  if (path !== undefined) appendFileSync(path, `${JSON.stringify(tally)}\n`);
}

export function sumTallies(path: string): Tally {
  const tallies = readFileSync(path, 'utf8').split('\n').filter(Boolean);
  return tallies
    .map((line) => JSON.parse(line) as Tally)
    .reduce(
      (sum, { passed, failed, skipped }) => ({
        passed: sum.passed + passed,
        failed: sum.failed + failed,
        skipped: sum.skipped + skipped,
      }),
      { passed: 0, failed: 0, skipped: 0 },
    );
}
