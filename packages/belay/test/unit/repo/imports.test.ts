import { expect } from 'vitest';
import { verifies } from '../../verifies.ts';
import { lint, plant } from './planted.ts';

const LAYERS = [
  ['cli'],
  ['demo'],
  ['control'],
  ['gateway'],
  ['sandbox'],
  ['monitor'],
  ['upstream'],
  ['policy', 'budget', 'stop', 'identity', 'vault'],
  ['ledger'],
  ['config'],
  ['core'],
] as const;
const FOLDERS = LAYERS.flat();
const layerOf = (folder: string): number =>
  LAYERS.findIndex((layer) => (layer as readonly string[]).includes(folder));

const LEAF = 'export const leaf = 1;\nexport type Leaf = number;\n';
const leaves = Object.fromEntries(FOLDERS.map((folder) => [`${folder}/leaf.ts`, LEAF]));
const pairs = FOLDERS.flatMap((from) =>
  FOLDERS.filter((to) => to !== from).map((to) => [from, to] as const),
);

verifies(
  'repo.imports-down',
  'every folder may import what lies below it, and nothing beside or above it',
  async () => {
    const files = pairs.map(([from, to]) => [
      `${from}/uses-${to}.ts`,
      `import { leaf } from '../${to}/leaf.ts';\nexport const used = leaf;\n`,
    ]);
    using tree = plant({ ...leaves, ...Object.fromEntries(files) });
    const forbidden = pairs.filter(([from, to]) => layerOf(to) <= layerOf(from));
    expect(forbidden.length).toBeGreaterThan(80);
    expect(await lint(tree.root)).toEqual(
      forbidden.map(([from, to]) => `${from}/uses-${to}.ts: noRestrictedImports`).sort(),
    );
  },
  { timeoutMs: 30_000 },
);

verifies(
  'repo.imports-down',
  'an upward import is found in whatever form it is written',
  async () => {
    using tree = plant({
      ...leaves,
      'ledger/a-type.ts':
        "import type { Leaf } from '../monitor/leaf.ts';\nexport type A = Leaf;\n",
      'ledger/b-again.ts': "export { leaf } from '../monitor/leaf.ts';\n",
      'ledger/c-dynamic.ts': "export const c = () => import('../monitor/leaf.ts');\n",
      'ledger/d-deep/d.ts':
        "import { leaf } from '../../monitor/leaf.ts';\nexport const d = leaf;\n",
      'verify.ts': "export { leaf } from './ledger/leaf.ts';\n",
    });
    const found = await lint(tree.root);
    for (const file of [
      'ledger/a-type.ts',
      'ledger/b-again.ts',
      'ledger/c-dynamic.ts',
      'ledger/d-deep/d.ts',
      'verify.ts',
    ]) {
      expect(found).toContain(`${file}: noRestrictedImports`);
    }
  },
  { timeoutMs: 30_000 },
);

verifies(
  'repo.imports-down',
  'a cycle is found, also one of types',
  async () => {
    using tree = plant({
      'stop/a.ts': "import { b } from './b.ts';\nexport const a = () => b;\n",
      'stop/b.ts': "import { a } from './a.ts';\nexport const b = () => a;\n",
      'budget/a.ts': "import type { B } from './b.ts';\nexport type A = B | 1;\n",
      'budget/b.ts': "import type { A } from './a.ts';\nexport type B = A | 2;\n",
    });
    expect(await lint(tree.root)).toEqual(
      ['budget/a.ts', 'budget/b.ts', 'stop/a.ts', 'stop/b.ts'].map(
        (file) => `${file}: noImportCycles`,
      ),
    );
  },
  { timeoutMs: 30_000 },
);

const IMPURE: Readonly<Record<string, string>> = {
  'date-now': 'export const x = Date.now();',
  'new-date': 'export const x = new Date();',
  'global-date': 'export const x = globalThis.Date;',
  performance: 'export const x = performance.now();',
  process: 'export const x = process.pid;',
  console: 'export const x = console;',
  fetch: "export const x = fetch('http://x');",
  crypto: 'export const x = crypto.randomUUID();',
  timer: 'export const x = setTimeout(() => {}, 1);',
  file: "import { readFileSync } from 'node:fs';\nexport const x = readFileSync;",
  'random-bytes': "import { randomBytes } from 'node:crypto';\nexport const x = randomBytes;",
  gunzip: "import { gunzipSync } from 'node:zlib';\nexport const x = gunzipSync;",
  'npm-package': "import { z } from 'zod';\nexport const x = z;",
};

verifies(
  'repo.pure-core',
  'no clock, process, randomness, I/O or package gets into core/',
  async () => {
    const bad = Object.entries(IMPURE).map(([name, code]) => [`core/${name}.ts`, `${code}\n`]);
    using tree = plant({
      ...Object.fromEntries(bad),
      'core/pure.ts': "import { createHash } from 'node:crypto';\nexport const x = createHash;\n",
      'core/pure-too.ts': "import { x } from './pure.ts';\nexport const y = [x, Math.max(1, 2)];\n",
    });
    const found = await lint(tree.root);
    const guilty = new Set(found.map((line) => line.split(': ')[0]));
    expect([...guilty].sort()).toEqual(bad.map(([name]) => name).sort());
  },
  { timeoutMs: 30_000 },
);
