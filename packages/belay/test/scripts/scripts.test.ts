// Each script beside this file is a test; its first comment is the test's name.

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { idsOfScript } from '../citations.ts';
import type { RequirementId } from '../requirements.ts';
import { parseScript, runScript } from '../script-runner.ts';
import { verifies } from '../verifies.ts';

for (const name of globSync('*.txt', { cwd: import.meta.dirname }).sort()) {
  const text = readFileSync(join(import.meta.dirname, name), 'utf8');
  const script = parseScript(text);
  verifies(
    idsOfScript(text) as RequirementId[],
    `${script.sentence} (${name})`,
    () => runScript(script),
    { timeoutMs: 120_000 },
  );
}
