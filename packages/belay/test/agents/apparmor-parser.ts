// A parser of AppArmor that knows the rule for user namespaces: the host's own if it is new enough,
// else Debian's, by its version, fetched once into the cache. apt does it, with lists and a cache of
// its own, so that nothing of the host changes; the archive's keyring says whether it is genuine.
// The parser brings the C library that it was built for.

import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../packed.ts';

const SUITE = 'trixie';
const VERSION = '4.1.0-1';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const FETCH_TIMEOUT_MS = 120_000;

/** A command that reads a profile from stdin and loads nothing, or why this host has none. */
export function apparmorParser(): readonly string[] | string {
  const own = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser'].find(existsSync);
  if (own !== undefined) {
    const { stdout } = spawnSync(own, ['--version'], { encoding: 'utf8' });
    if (Number(/(\d+)\.\d+/.exec(stdout)?.[1]) >= 4) return [own, '-Q', '-K'];
  }
  if (spawnSync('apt-get', ['--version']).status !== 0 || !existsSync(KEYRING)) {
    return "no parser of AppArmor 4, and no apt with Debian's keyring to fetch one";
  }
  const home = join(ROOT, '.cache', `apparmor-${VERSION}-${process.arch}`);
  try {
    if (!existsSync(home)) fetchInto(home);
  } catch (error) {
    return `Debian's apparmor ${VERSION} cannot be had: ${(error as Error).message}`;
  }
  const [loader] = globSync(join(home, 'usr/lib/*/ld-linux-*.so.*'));
  if (loader === undefined) throw new Error(`\`${home}\` holds no loader`);
  const libraries = ['--library-path', join(loader, '..')];
  const program = join(home, 'usr/sbin/apparmor_parser');
  return [loader, ...libraries, program, '-Q', '-K', '--base', join(home, 'etc/apparmor.d')];
}

/** Made beside its place and renamed into it, so that nobody sees half of it. */
function fetchInto(home: string): void {
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  const fresh = mkdtempSync(join(ROOT, '.cache/.apparmor-'));
  try {
    for (const name of ['state/lists/partial', 'cache/archives/partial', 'root']) {
      mkdirSync(join(fresh, name), { recursive: true });
    }
    const sources = join(fresh, 'debian.list');
    const archive = 'http://deb.debian.org/debian';
    writeFileSync(sources, `deb [signed-by=${KEYRING}] ${archive} ${SUITE} main\n`);
    const settings = {
      'Dir::State': join(fresh, 'state'),
      'Dir::State::status': '/var/lib/dpkg/status',
      'Dir::Cache': join(fresh, 'cache'),
      'Dir::Etc::sourcelist': sources,
      'Dir::Etc::sourceparts': '/dev/null',
      'Acquire::Languages': 'none',
      'APT::Sandbox::User': '',
    };
    const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
    const run = (program: string, args: readonly string[]): void => {
      execFileSync(program, args, { cwd: fresh, timeout: FETCH_TIMEOUT_MS, stdio: 'pipe' });
    };
    run('apt-get', ['-qq', ...options, 'update']);
    run('apt-get', ['-qq', ...options, 'download', `apparmor=${VERSION}`, 'libc6']);
    for (const file of globSync('*.deb', { cwd: fresh })) run('dpkg-deb', ['-x', file, 'root']);
    chmodSync(join(fresh, 'root'), 0o755);
    renameSync(join(fresh, 'root'), home);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}
