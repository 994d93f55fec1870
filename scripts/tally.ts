// The total over the runs that `.ci/run` made. A run that ended before it could count, or no run at
// all, is one failure.
//
//   node scripts/tally.ts FILE STATUS

import { sumTallies, totalLine } from '../packages/belay/test/results.ts';

const [path = '', status = '1'] = process.argv.slice(2);
const sum = sumTallies(path);
const uncounted = (status !== '0' && sum.failed === 0) || sum.passed === 0;
process.stdout.write(`${totalLine({ ...sum, failed: sum.failed + (uncounted ? 1 : 0) })}\n`);
process.exitCode = uncounted || sum.failed > 0 ? 1 : 0;
