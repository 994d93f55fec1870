// Installs real agents, unmodified and exactly as a lock says, into the cache: once, in bounded time,
// and again only when the lock changes. No install script runs: native programs come in packages of
// their own.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from '../packed.ts';

const INSTALL_TIMEOUT_MS = 240_000;
const ATTEMPTS = 2;

/** A folder with a package.json and its lock, and its programs: names, and where they are. */
export interface Agents {
  readonly folder: string;
  readonly programs: Readonly<Record<string, string>>;
}

const MODULES = 'node_modules';

/** For every run of `npm run test:agents`. */
export const AGENTS: Agents = {
  folder: import.meta.dirname,
  programs: {
    claude: `${MODULES}/@anthropic-ai/claude-code-linux-${process.arch}/claude`,
    codex: `${MODULES}/.bin/codex`,
  },
};

/** By a flag: they are large. */
export const MORE_AGENTS: Agents = {
  folder: join(import.meta.dirname, 'more'),
  programs: {
    opencode: `${MODULES}/opencode-linux-${process.arch}/bin/opencode`,
    pi: `${MODULES}/.bin/pi`,
    gemini: `${MODULES}/.bin/gemini`,
  },
};

/** A folder with the programs, for a PATH. */
export function installAgents({ folder, programs }: Agents): string {
  const lock = readFileSync(join(folder, 'package-lock.json'));
  const digest = createHash('sha256').update(lock).digest('hex').slice(0, 16);
  const cache = join(ROOT, '.cache/agents');
  const home = join(cache, digest);
  const bin = join(home, 'bin');
  if (Object.keys(programs).every((name) => existsSync(join(bin, name)))) return bin;

  // Made beside its place and renamed into it, so that nobody sees half an installation.
  rmSync(home, { recursive: true, force: true });
  mkdirSync(cache, { recursive: true });
  const fresh = mkdtempSync(join(cache, '.fresh-'));
  try {
    for (const name of ['package.json', 'package-lock.json']) {
      copyFileSync(join(folder, name), join(fresh, name));
    }
    download(fresh);
    mkdirSync(join(fresh, 'bin'), { mode: 0o755 });
    for (const [name, path] of Object.entries(programs)) {
      if (!existsSync(join(fresh, path))) throw new Error(`no ${name} for ${process.arch}`);
      symlinkSync(join('..', path), join(fresh, 'bin', name));
    }
    chmodSync(fresh, 0o755);
    mkdirSync(dirname(home), { recursive: true });
    renameSync(fresh, home);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return bin;
}

function download(folder: string): void {
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  let said = '';
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { status, stderr } = spawnSync('npm', args, {
      cwd: folder,
      encoding: 'utf8',
      timeout: INSTALL_TIMEOUT_MS,
    });
    if (status === 0) return;
    said = stderr;
  }
  throw new Error(`the agents cannot be installed: ${said.trim()}`);
}
