// `npm test`: build, check, install the packed product once, run each test once as the present user,
// and end with the total alone on the last line. `npm run test:agents` names another project.
//
//   node scripts/test.ts [PROJECT...]

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { installPacked, ROOT } from '../packages/belay/test/packed.ts';
import { closing, type Results, recordTally, tallyOf } from '../packages/belay/test/results.ts';
import { runTests } from './run-tests.ts';

const TIMEOUT_MS = 30 * 60_000;

async function main(projects: readonly string[]): Promise<void> {
  const problems: string[] = [];
  let results: Results = { tree: '', tests: [], problems };
  try {
    if (!npmRun('build')) throw new Error('`npm run build` failed');
    if (!npmRun('check')) problems.push('`npm run check` failed');
    const launcher = await installPacked();
    const ran = await runTests({
      root: ROOT,
      projects,
      env: { BELAY_INSTALLED: launcher },
      into: join(ROOT, '.cache/results', `${projects.join('-')}.json`),
      timeoutMs: TIMEOUT_MS,
    });
    results = ran.results;
    if (results.tests.length === 0) problems.push('no test ran');
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  }
  results = { ...results, problems: [...problems, ...results.problems] };
  const tally = tallyOf(results);
  recordTally(tally);
  process.stdout.write(closing(results, tally));
  process.exitCode = tally.failed === 0 ? 0 : 1;
}

function npmRun(script: string): boolean {
  const { status } = spawnSync('npm', ['run', '--silent', script], { cwd: ROOT, stdio: 'inherit' });
  return status === 0;
}

const named = process.argv.slice(2);
await main(named.length === 0 ? ['unit', 'system'] : named);
