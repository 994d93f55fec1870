import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { homeFiles, PROFILES, profileOf } from '../../../src/sandbox/profiles/profiles.ts';
import { verifies } from '../../verifies.ts';

verifies('agent.profile', 'each profile is found by its program, and stays in the home', () => {
  for (const profile of PROFILES) {
    for (const command of profile.commands) {
      expect(profileOf([`/opt/x/${command}`])).toBe(profile);
    }
    for (const { path } of homeFiles(profile, '/nowhere')) {
      expect(path).toMatch(/^\.[a-z]/);
      expect(path.split('/')).not.toContain('..');
    }
  }
  expect(profileOf(['claude-like'])).toBeUndefined();
  expect(profileOf([])).toBeUndefined();
});

verifies('agent.profile', 'only named settings are copied, and a broken file is as none', () => {
  const home = mkdtempSync(join(tmpdir(), 'belay-profile-'));
  try {
    mkdirSync(join(home, '.claude'));
    const claude = profileOf(['claude']);
    if (claude === undefined) throw new Error('no profile');
    const settings = (): unknown => {
      const file = homeFiles(claude, home).find(({ path }) => path === '.claude/settings.json');
      return JSON.parse(file?.content ?? '');
    };
    writeFileSync(
      join(home, '.claude/settings.json'),
      '{"model":"m","env":{"KEY":"s"},"hooks":{},"apiKeyHelper":"/x","sandbox":{"enabled":true}}',
    );
    expect(settings()).toEqual({ model: 'm', sandbox: { enabled: false } });
    for (const text of ['{', '[]', 'null', '"x"']) {
      writeFileSync(join(home, '.claude/settings.json'), text);
      expect(settings()).toEqual({ sandbox: { enabled: false } });
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
