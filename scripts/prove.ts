// `npm run prove -- NAME`: runs a program of bench/ or test/fault/ at full size and writes what it
// measured to docs/evidence/NAME.json, with the commit, the machine and a digest of the folders that
// the figures speak of. Without a name: which evidence is older than the code.
//
// Such a program exports `covers`, the folders, and `prove({ scale, seed })`, which throws when an
// assertion does not hold and answers its figures. Tests run the same programs smaller.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isDeepStrictEqual } from 'node:util';

interface Proof {
  readonly covers: readonly string[];
  prove(size: { readonly scale: number; readonly seed: number }): Promise<unknown>;
}

interface Evidence {
  readonly covers: Readonly<Record<string, string>>;
}

const ROOT = resolve(import.meta.dirname, '..');
const EVIDENCE = join(ROOT, 'docs/evidence');
const PROGRAMS = ['bench', 'packages/belay/test/fault'];

function digestOf(folder: string): string {
  const digest = createHash('sha256');
  const files = globSync('**', { cwd: join(ROOT, folder), withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('node_modules'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  if (files.length === 0) throw new Error(`\`${folder}\` holds nothing`);
  for (const file of files) {
    const bytes = readFileSync(file);
    digest.update(`${file.slice(ROOT.length)}\0${bytes.length}\0`).update(bytes);
  }
  return digest.digest('hex');
}

/** Prints each evidence whose folders have changed since. */
function printStale(): void {
  for (const file of globSync('*.json', { cwd: EVIDENCE }).sort()) {
    const { covers } = JSON.parse(readFileSync(join(EVIDENCE, file), 'utf8')) as Evidence;
    const changed = Object.entries(covers)
      .filter(([folder, digest]) => !existsSync(join(ROOT, folder)) || digestOf(folder) !== digest)
      .map(([folder]) => folder);
    const name = basename(file, '.json');
    const state = changed.length === 0 ? 'current' : `older than ${changed.join(', ')}`;
    process.stdout.write(`${name}: ${state}\n`);
  }
}

async function proveNow(name: string, seed: number): Promise<void> {
  const path = PROGRAMS.map((folder) => join(ROOT, folder, `${name}.ts`)).find(existsSync);
  if (path === undefined) throw new Error(`no program \`${name}\` in ${PROGRAMS.join(' or ')}`);
  const { covers, prove } = (await import(pathToFileURL(path).href)) as Partial<Proof>;
  if (covers === undefined || prove === undefined) throw new Error(`\`${name}\` is no proof`);
  build();
  const before = treeOf(covers);
  const startedMs = performance.now();
  const figures = await prove({ scale: 1, seed });
  const seconds = Math.round((performance.now() - startedMs) / 1000);
  if (!isDeepStrictEqual(treeOf(covers), before)) {
    throw new Error('the tree has changed meanwhile: of which state the figures are is not known');
  }
  const evidence = {
    name,
    commit: before.commit,
    clean: before.clean,
    date: new Date().toISOString(),
    seed,
    seconds,
    machine: {
      cpu: cpus()[0]?.model,
      cores: cpus().length,
      memoryBytes: totalmem(),
      kernel: release(),
      node: process.version,
    },
    figures,
    covers: before.covers,
  };
  const into = join(EVIDENCE, `${name}.json`);
  mkdirSync(dirname(into), { recursive: true });
  writeFileSync(into, `${JSON.stringify(evidence, null, 2)}\n`);
  process.stdout.write(
    `${JSON.stringify(figures, null, 2)}\nwritten to docs/evidence/${name}.json\n`,
  );
}

/** What is measured is packed from these sources, and never an installation that someone names. */
function build(): void {
  delete process.env.BELAY_INSTALLED;
  const { status } = spawnSync('npm', ['run', '--silent', 'build'], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (status !== 0) throw new Error('`npm run build` failed');
}

interface Tree {
  readonly commit: string;
  readonly clean: boolean;
  readonly covers: Readonly<Record<string, string>>;
}

function treeOf(folders: readonly string[]): Tree {
  return {
    commit: git('rev-parse', 'HEAD'),
    clean: git('status', '--porcelain') === '',
    covers: Object.fromEntries(folders.map((folder) => [folder, digestOf(folder)])),
  };
}

function git(...args: readonly string[]): string {
  const { status, stdout } = spawnSync('git', args, { cwd: ROOT, encoding: 'utf8' });
  if (status !== 0) throw new Error(`\`git ${args.join(' ')}\` failed`);
  return stdout.trim();
}

const [name, seed = '1'] = process.argv.slice(2);
if (name === undefined) printStale();
else await proveNow(name, Number(seed));
