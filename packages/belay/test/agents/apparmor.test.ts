// The profile that lets two tools of Belay make user namespaces, whole, as AppArmor's own parser reads
// it. The rule is younger than the parser of some hosts on which everything else is tested.

import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ROOT } from '../packed.ts';
import { verifies } from '../verifies.ts';
import { apparmorParser } from './apparmor-parser.ts';

verifies(
  'repo.host-setup',
  'the whole AppArmor profile parses, its rule for user namespaces included',
  (context) => {
    const parser = apparmorParser();
    if (typeof parser === 'string') return context.skip(parser);
    const [program = '', ...args] = parser;
    const parse = (input: string) => spawnSync(program, args, { input, encoding: 'utf8' });
    const setup = join(ROOT, 'packages/belay/bin/apparmor-setup');
    const profile = execFileSync('sh', [setup, '--print'], { encoding: 'utf8' });
    expect(profile).toContain('  userns,\n');
    const whole = parse(profile);
    expect(whole.status, whole.stderr).toBe(0);
    // This parser can refuse: a rule that is none, and an abi that it does not have.
    for (const [known, unknown] of [
      ['userns,', 'usernss,'],
      ['abi/4.0', 'abi/4.99'],
    ] as const) {
      expect(parse(profile.replace(known, unknown)).status, unknown).not.toBe(0);
    }
  },
  { timeoutMs: 300_000 },
);
