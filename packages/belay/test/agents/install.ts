// Installs the real agents of package.json beside it, unmodified and exactly as the lock says, into
// the cache: once, in bounded time, and again only when the lock changes. No install script runs:
// the native programs come in packages of their own.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../packed.ts';

const INSTALL_TIMEOUT_MS = 240_000;
const ATTEMPTS = 2;
const NATIVE = `node_modules/@anthropic-ai/claude-code-linux-${process.arch}/claude`;

/** The folder that holds `claude` and `codex`, for a PATH. */
export function installAgents(): string {
  const lock = readFileSync(join(import.meta.dirname, 'package-lock.json'));
  const digest = createHash('sha256').update(lock).digest('hex').slice(0, 16);
  const cache = join(ROOT, '.cache/agents');
  const home = join(cache, digest);
  const bin = join(home, 'bin');
  if (existsSync(join(bin, 'claude'))) return bin;

  // Made beside its place and renamed into it, so that nobody sees half an installation.
  mkdirSync(cache, { recursive: true });
  const fresh = mkdtempSync(join(cache, '.fresh-'));
  try {
    for (const name of ['package.json', 'package-lock.json']) {
      copyFileSync(join(import.meta.dirname, name), join(fresh, name));
    }
    download(fresh);
    if (!existsSync(join(fresh, NATIVE))) throw new Error(`no Claude Code for ${process.arch}`);
    mkdirSync(join(fresh, 'bin'), { mode: 0o755 });
    symlinkSync(join('..', NATIVE), join(fresh, 'bin/claude'));
    symlinkSync('../node_modules/.bin/codex', join(fresh, 'bin/codex'));
    spawnSync('chmod', ['755', fresh]);
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
