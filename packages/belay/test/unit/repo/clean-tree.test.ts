import { expect } from 'vitest';
import { checkDoors } from '../../../../../scripts/check-doors.ts';
import { ROOT } from '../../packed.ts';
import { verifies } from '../../verifies.ts';
import { lint } from './planted.ts';

verifies(
  ['repo.imports-down', 'repo.one-door', 'repo.pure-core'],
  'this tree keeps its own rules',
  async () => {
    expect(checkDoors(ROOT)).toEqual([]);
    const rules = /: (noRestrictedImports|noRestrictedGlobals|noImportCycles)$/;
    expect((await lint(ROOT)).filter((line) => rules.test(line))).toEqual([]);
  },
  { timeoutMs: 60_000 },
);
