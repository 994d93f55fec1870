// The product as a user gets it: packed by npm and installed into an empty folder, once for each
// state of what is packed. System tests and scripts run this copy, never the sources.

import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const NPM_TIMEOUT_MS = 300_000;

export const ROOT = resolve(import.meta.dirname, '../../..');

/** Packs and installs the built package of `root`; answers the path of the launcher. */
export async function installPacked(root: string = ROOT): Promise<string> {
  const source = join(root, 'packages/belay');
  if (!existsSync(join(source, 'dist/cli/main.js'))) {
    throw new Error('the package is not built: `npm run build` comes first');
  }
  const cache = join(root, '.cache/installed');
  const home = join(cache, digestOf(source));
  const launcher = join(home, 'node_modules/belayer/bin/belay.js');
  if (existsSync(launcher)) return launcher;

  // Made beside its place and renamed into it, so that no test ever sees half an installation.
  const fresh = join(cache, `.${randomUUID()}`);
  mkdirSync(fresh, { recursive: true });
  try {
    writeFileSync(join(fresh, 'package.json'), '{ "private": true }\n');
    const packed = await npm(source, [
      'pack',
      '--json',
      '--ignore-scripts',
      `--pack-destination=${fresh}`,
    ]);
    const tarball = join(fresh, tarballIn(packed));
    await npm(fresh, [
      'install',
      '--omit=dev',
      '--ignore-scripts',
      '--prefer-offline',
      '--no-audit',
      '--no-fund',
      '--no-package-lock',
      '--loglevel=error',
      tarball,
    ]);
    rmSync(tarball);
    renameSync(fresh, home);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    // Another process may have installed the same state in the meantime.
    if (!existsSync(launcher)) throw error;
  }
  return launcher;
}

/**
 * An installation like `launcher`'s, with the program of another tree in it: what a mutant needs, without
 * asking npm again. Answers the path of the new launcher.
 */
export function installBeside(launcher: string, root: string): string {
  const installed = resolve(launcher, '../../../..');
  const place = join(root, '.cache/installed/beside');
  cpSync(installed, place, { recursive: true, verbatimSymlinks: true });
  for (const part of ['bin', 'dist']) {
    const target = join(place, 'node_modules/belayer', part);
    rmSync(target, { recursive: true });
    cpSync(join(root, 'packages/belay', part), target, { recursive: true });
  }
  return join(place, 'node_modules/belayer/bin/belay.js');
}

function tarballIn(packed: string): string {
  const list = JSON.parse(packed) as readonly { readonly filename: string }[];
  const [first] = list;
  if (first === undefined) throw new Error('npm packed nothing');
  return first.filename;
}

/** Digest of everything that goes into the tarball. */
function digestOf(source: string): string {
  const digest = createHash('sha256');
  const files = globSync(['bin/**', 'dist/**', 'package.json', 'README.md', 'LICENSE'], {
    cwd: source,
    withFileTypes: true,
  })
    .filter((entry) => entry.isFile() && entry.name !== '.tsbuildinfo')
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const file of files) {
    const bytes = readFileSync(file);
    digest.update(`${file.slice(source.length)}\0${bytes.length}\0`).update(bytes);
  }
  return digest.digest('hex').slice(0, 16);
}

async function npm(cwd: string, args: readonly string[]): Promise<string> {
  // npm hands its own settings to what it runs; here they would point at the wrong folder.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(config_(local_)?prefix|package_|lifecycle_|command)/i.test(name),
    ),
  );
  const { stdout } = await run('npm', [...args], {
    cwd,
    env,
    timeout: NPM_TIMEOUT_MS,
    maxBuffer: 64 << 20,
  });
  return stdout;
}
