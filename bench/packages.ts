// Where peers come from: Debian's packages, and npm for mockttp by the lock beside this file. Says
// what it installs, and only root installs; for anyone else a peer that is not there is missing, by
// name. No install script of npm runs, and no service of a package is started.

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
  writeFileSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { ROOT } from '../packages/belay/test/packed.ts';

const INSTALL_TIMEOUT_MS = 400_000;
const PACKAGES = { nginx: 'nginx', squid: 'squid-openssl', mitmdump: 'mitmproxy' } as const;
const POLICY = '/usr/sbin/policy-rc.d';
const PLACES = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export type Program = keyof typeof PACKAGES;

export function programPath(program: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...PLACES];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

/** Installs what is missing, as root; what then is still missing is the caller's to report. */
export function installPeers(say: (line: string) => void): void {
  const missing = (Object.keys(PACKAGES) as readonly Program[]).filter(
    (program) => programPath(program) === undefined,
  );
  if (missing.length === 0) return;
  const packages = missing.map((program) => PACKAGES[program]);
  if (process.getuid?.() !== 0 || programPath('apt-get') === undefined) {
    say(`not installed: ${packages.join(', ')}; root would install them with apt-get`);
    return;
  }
  say(`installing ${packages.join(', ')}, without starting them`);
  // Debian asks this file before a package starts its service.
  const ours = !existsSync(POLICY);
  if (ours) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const args = ['install', '-y', '-qq', '--no-install-recommends', ...packages];
    if (!apt(args)) {
      apt(['update', '-qq']);
      apt(args);
    }
  } finally {
    if (ours) rmSync(POLICY);
  }
  if (!existsSync('/run/systemd/system')) return;
  const services = missing.filter((program) => program !== 'mitmdump');
  spawnSync('systemctl', ['disable', ...services], { timeout: 60_000 });
}

function apt(args: readonly string[]): boolean {
  const { status } = spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=120', ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: INSTALL_TIMEOUT_MS,
  });
  return status === 0;
}

/** The folder whose `node_modules` hold mockttp. Throws when npm cannot fill it. */
export function installMockttp(say: (line: string) => void): string {
  const lock = readFileSync(join(import.meta.dirname, 'package-lock.json'));
  const cache = join(ROOT, '.cache/bench');
  const home = join(cache, createHash('sha256').update(lock).digest('hex').slice(0, 16));
  if (existsSync(join(home, 'node_modules/mockttp'))) return home;
  say('installing mockttp with npm, into .cache/bench');
  mkdirSync(cache, { recursive: true });
  // Made beside its place and renamed into it, so that nobody sees half an installation.
  const fresh = mkdtempSync(join(cache, '.fresh-'));
  try {
    for (const name of ['package.json', 'package-lock.json']) {
      copyFileSync(join(import.meta.dirname, name), join(fresh, name));
    }
    const { status, stderr } = spawnSync(
      'npm',
      ['ci', '--ignore-scripts', '--omit=dev', '--no-audit', '--no-fund', '--loglevel=error'],
      { cwd: fresh, encoding: 'utf8', timeout: INSTALL_TIMEOUT_MS },
    );
    if (status !== 0) throw new Error(`npm cannot install mockttp: ${stderr.trim()}`);
    chmodSync(fresh, 0o755);
    renameSync(fresh, home);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return home;
}
