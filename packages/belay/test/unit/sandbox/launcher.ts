// A program for tests: builds one sandbox from a specification on its command line, opens its gate
// and ends with the command's status. `--hold` leaves the gate closed. One JSON line on descriptor 3
// says when it stands, and another how it ended.

import { writeSync } from 'node:fs';
import type { SandboxSpec } from '../../../src/sandbox/spec.ts';
import { startSandbox } from '../../../src/sandbox/start.ts';

const [text = '', flag] = process.argv.slice(2);
const spec = JSON.parse(text) as SandboxSpec;
const tell = (line: object) => writeSync(3, `${JSON.stringify(line)}\n`);
const before = performance.now();
try {
  await using sandbox = await startSandbox(spec);
  const { holderPid, agentNetPid, childPid } = sandbox;
  tell({ holderPid, agentNetPid, childPid, setupMs: Math.round(performance.now() - before) });
  process.on('SIGTERM', () => void sandbox.kill());
  if (flag !== '--hold') sandbox.open();
  const end = await sandbox.ended;
  tell(end);
  process.exitCode = end.status;
} catch (error) {
  const { code, message, hint } = error as Error & { code?: string; hint?: string };
  tell({ code, message, hint });
  process.exitCode = 69;
}
