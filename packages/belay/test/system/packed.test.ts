import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import { belay, installed } from '../installed.ts';
import { ROOT } from '../packed.ts';
import { verifies } from '../verifies.ts';

const MINUTE_MS = 60_000;

async function packageFolder(): Promise<string> {
  return dirname(dirname(await installed()));
}

verifies(
  'repo.packed',
  'the installed package holds the program and nothing of the workshop',
  async () => {
    const folder = await packageFolder();
    const files = globSync('**/*', { cwd: folder, exclude: ['node_modules/**'] });
    expect(files).toContain('dist/cli/main.js');
    expect(files, 'what a hint names').toContain('bin/apparmor-setup');
    expect(
      files.filter((file) => /(^|\/)(src|test)\/|\.tsbuildinfo$|(?<!\.d)\.ts$/.test(file)),
    ).toEqual([]);
    const license = readFileSync(join(ROOT, 'LICENSE'), 'utf8');
    expect(readFileSync(join(folder, 'LICENSE'), 'utf8')).toBe(license);
  },
  { timeoutMs: 5 * MINUTE_MS },
);

verifies(
  'repo.packed',
  'every public entry exists, with its types',
  async () => {
    const folder = await packageFolder();
    const { exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      readonly exports: Readonly<Record<string, string>>;
    };
    const entries = Object.values(exports).flatMap((js) => [js, js.replace(/\.js$/, '.d.ts')]);
    expect(entries.filter((entry) => !existsSync(join(folder, entry)))).toEqual([]);
    for (const entry of Object.values(exports)) await import(join(folder, entry));
  },
  { timeoutMs: MINUTE_MS },
);

verifies(
  'repo.packed',
  'it runs from an empty folder',
  async () => {
    const { version } = JSON.parse(
      readFileSync(join(ROOT, 'packages/belay/package.json'), 'utf8'),
    ) as { readonly version: string };
    const done = await belay(['--version']);
    expect(done).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: '' });
  },
  { timeoutMs: MINUTE_MS },
);
