// A known agent finds in its home what it needs to work in here, and nothing of its user's secrets;
// a home that an agent has prepared leads no write of ours out of the sandbox.

import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { openPlace } from './place.ts';
import { scratch } from './upstreams.ts';

const SHOW = 'cat ~/.claude/settings.json ~/.claude/CLAUDE.md ~/.claude.json; env | grep DISABLE_';

verifies(
  'agent.profile',
  'a known agent starts with its sandbox and updater off and its user’s plain settings, not secrets',
  async () => {
    await using place = await openPlace();
    const { session } = place;
    const userHome = session.env.HOME as string;
    mkdirSync(join(userHome, '.claude'));
    const settings = { model: 'opus', env: { TOKEN: 'a secret' }, sandbox: { enabled: true } };
    writeFileSync(join(userHome, '.claude/settings.json'), JSON.stringify(settings));
    writeFileSync(join(userHome, '.claude/CLAUDE.md'), 'be kind\n');
    const bin = join(place.workdir, 'bin');
    mkdirSync(bin);
    const claude = join(bin, 'claude');
    writeFileSync(claude, `#!/bin/sh\n${SHOW}\n[ -z "$1" ] || sh -c "$1"\n`);
    chmodSync(claude, 0o755);
    const env = { PATH: `${bin}:${session.env.PATH}` };
    const run = (...args: string[]) => place.run([], ['claude', ...args], { env });

    const first = await run();
    expect(first.status, first.stderr).toBe(0);
    const shown = first.stdout;
    const end = shown.indexOf('\n}\n') + 3;
    expect(JSON.parse(shown.slice(0, end))).toEqual({ model: 'opus', sandbox: { enabled: false } });
    expect(shown).toContain('be kind');
    expect(shown).toContain('hasCompletedOnboarding');
    expect(shown).toContain('DISABLE_AUTOUPDATER=1');
    expect(shown).not.toContain('a secret');
    const other = await place.run([], ['sh', '-c', 'env; echo listed; ls -A ~/.claude']);
    expect(other.stdout, 'another program gets no profile').not.toContain('DISABLE_AUTOUPDATER');
    // The home is the agent's, and what was put there for it in an earlier run stays.
    expect(other.stdout).toMatch(/listed\nCLAUDE\.md\nsettings\.json\n$/);

    // An agent that turns its home into links: the next start writes nothing through them.
    using folder = scratch();
    chmodSync(folder.path, 0o777);
    const trap = `rm -rf ~/.claude && ln -s ${folder.path} ~/.claude && ln -sf ${folder.path}/x ~/.claude.json`;
    expect((await run(trap)).status).toBe(0);
    const after = await run('readlink ~/.claude ~/.claude.json');
    expect(after.status, after.stderr).toBe(0);
    expect(after.stdout.trimEnd().split('\n').slice(-2)).toEqual([folder.path, `${folder.path}/x`]);
    expect(readdirSync(folder.path)).toEqual([]);
    expect(existsSync(join(folder.path, 'x'))).toBe(false);
    expect(readFileSync(join(userHome, '.claude/CLAUDE.md'), 'utf8')).toBe('be kind\n');
  },
  { timeoutMs: 60_000 },
);

verifies(
  'agent.home',
  'a home stays for its agent, environment and workspace, and no other run finds what was left in it',
  async () => {
    using folder = scratch();
    await using place = await openPlace();
    const other = join(folder.path, 'other');
    mkdirSync(other);
    copyFileSync(join(place.workdir, 'belay.jsonc'), join(other, 'belay.jsonc'));
    const owner = statSync(place.workdir);
    for (const path of [folder.path, other]) chownSync(path, owner.uid, owner.gid);
    chmodSync(folder.path, 0o755);
    const left = ['sh', '-c', 'echo evil > ~/.bashrc'];
    expect((await place.run([], left)).status).toBe(0);
    const look = ['sh', '-c', 'cat ~/.bashrc 2> /dev/null || echo clean'];
    expect((await place.run([], look)).stdout, 'the same').toBe('evil\n');
    const elsewhere = await place.run(['--workdir', other], look);
    expect(elsewhere.stdout, elsewhere.stderr).toBe('clean\n');
    const text = readFileSync(join(place.workdir, 'belay.jsonc'), 'utf8');
    place.put('belay.jsonc', text.replaceAll('"local"', '"staging"'));
    const staging = await place.run([], look);
    expect(staging.stdout, staging.stderr).toBe('clean\n');
    expect(staging.summary).toMatchObject({ environment: 'staging' });
  },
  { timeoutMs: 60_000 },
);

verifies(
  'agent.nested',
  'browsers and containers hear why their own sandboxes fail in here, and which flag helps',
  async () => {
    await using place = await openPlace();
    const bin = join(place.workdir, 'bin');
    mkdirSync(bin);
    const unshare = '#!/bin/sh\nexec unshare --user --map-root-user true\n';
    for (const name of ['chromium', 'docker']) {
      writeFileSync(join(bin, name), unshare);
      chmodSync(join(bin, name), 0o755);
    }
    const env = { PATH: `${bin}:${place.session.env.PATH}` };
    const flags = { chromium: '--no-sandbox', docker: '--containment external' };
    for (const [name, flag] of Object.entries(flags)) {
      const run = await place.run([], [name], { env });
      expect(run.status).not.toBe(0);
      expect(run.stderr).toMatch(/unshare.*Operation not permitted/);
      expect(run.stderr).toContain('refused in here');
      expect(run.stderr).toContain(flag);
    }
    expect((await place.outside([join(bin, 'chromium')])).status).toBe(0);
  },
  { timeoutMs: 30_000 },
);
