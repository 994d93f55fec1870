// A tree that holds only the repository's rules and planted files, checked by the real tools.

import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../packed.ts';

const run = promisify(execFile);
const SOURCE = 'packages/belay/src';

export interface PlantedTree extends Disposable {
  readonly root: string;
}

/** `files` by their path below src/. */
export function plant(files: Readonly<Record<string, string>>): PlantedTree {
  const root = mkdtempSync(join(tmpdir(), 'belay-planted-'));
  copyFileSync(join(ROOT, 'biome.json'), join(root, 'biome.json'));
  for (const [name, text] of Object.entries(files)) {
    const path = join(root, SOURCE, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  return { root, [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }) };
}

/** What `biome lint` finds, as `path below src/: rule`, sorted and without repeats. */
export async function lint(root: string): Promise<readonly string[]> {
  const biome = join(ROOT, 'node_modules/.bin/biome');
  const args = ['lint', '--reporter=json', '--max-diagnostics=none', '.'];
  const options = { cwd: root, timeout: 30_000, maxBuffer: 64 << 20 };
  // Findings end in status 1 and are still on stdout; anything else has no JSON and throws below.
  const { stdout } = await run(biome, args, options).catch((error: { stdout: string }) => error);
  const report = JSON.parse(stdout) as {
    readonly summary: { readonly unchanged: number; readonly changed: number };
    readonly diagnostics: readonly {
      readonly category: string;
      readonly severity: string;
      readonly location: { readonly path: string | { readonly file: string } };
    }[];
  };
  if (report.summary.unchanged + report.summary.changed === 0)
    throw new Error('biome read no file');
  const found = report.diagnostics
    .filter(({ severity }) => severity === 'error')
    .map(({ category, location }) => {
      const path = typeof location.path === 'string' ? location.path : location.path.file;
      return `${path.replace(`${SOURCE}/`, '')}: ${category.split('/').at(-1)}`;
    });
  return [...new Set(found)].sort();
}
