import { spawnSync } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ROOT } from '../../packed.ts';
import { verifies } from '../../verifies.ts';

const LAUNCHER = join(ROOT, 'packages/belay/bin/belay.js');

interface OldNode {
  readonly path: string;
  readonly version: string;
}

/** A Node of this host that is too old, if there is one. */
function findOldNode(): OldNode | undefined {
  const folders = ['/usr/bin', '/usr/local/bin', ...(process.env.PATH ?? '').split(':')];
  const managed = globSync(join(homedir(), '.nvm/versions/node/*/bin'));
  for (const folder of [...folders, ...managed]) {
    const path = join(folder, 'node');
    if (!existsSync(path)) continue;
    const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 10_000 });
    const version = stdout?.trim() ?? '';
    const major = Number(/^v(\d+)\./.exec(version)?.[1]);
    if (major >= 12 && major < 24) return { path, version };
  }
  return undefined;
}

const old = findOldNode();

verifies(
  'repo.launcher',
  'a Node that is too old prints what it is and what to type, and ends with 69',
  () => {
    const { path, version } = old as OldNode;
    const done = spawnSync(path, [LAUNCHER, 'run', '--', 'true'], {
      encoding: 'utf8',
      timeout: 10_000,
    });
    expect(done.stderr).toBe(
      `belay: error: needs Node 24 or newer, this is ${version}\n` +
        'belay: hint: npx -y -p node@24 -p belayer belay run -- true\n',
    );
    expect(done.stdout).toBe('');
    expect(done.status).toBe(69);
  },
  { skip: old === undefined && 'no Node older than 24 on this host' },
);

verifies('repo.launcher', 'the launcher takes the version that Node states', () => {
  // A Node that calls itself 22 stands in for one, so that this runs on every host.
  const claim = "Object.defineProperty(process.versions, 'node', { value: '22.22.2' })";
  const preload = `data:text/javascript,${encodeURIComponent(claim)}`;
  const done = spawnSync(process.execPath, ['--import', preload, LAUNCHER], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  expect(done.stderr).toContain('belay: error: needs Node 24 or newer');
  expect(done.status).toBe(69);
});
