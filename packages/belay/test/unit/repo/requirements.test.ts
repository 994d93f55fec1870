import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { parseMutant } from '../../../../../scripts/mutant.ts';
import { patternFor } from '../../../../../scripts/run-tests.ts';
import { citationsBelow, idsOfScript, idsOfTest, isRequirement } from '../../citations.ts';
import { ROOT } from '../../packed.ts';
import { type Requirement, requirements } from '../../requirements.ts';
import { closing, idsOf, tallyOf } from '../../results.ts';
import { verifies } from '../../verifies.ts';

const citations = citationsBelow(join(ROOT, 'packages/belay/test'));

verifies(
  'repo.requirements',
  'every requirement that is not planned has a test that cites it',
  () => {
    const cited = new Set(citations.map(({ id }) => id));
    const missing = Object.entries<Requirement>(requirements)
      .filter(([id, { planned }]) => !planned && !cited.has(id))
      .map(([id]) => id);
    expect(missing).toEqual([]);
  },
);

verifies('repo.requirements', 'every id that a test cites is a requirement', () => {
  expect(citations.filter(({ id }) => !isRequirement(id))).toEqual([]);
});

verifies('repo.requirements', 'citations are read from calls, lists, loops and scripts', () => {
  expect(idsOfTest("verifies('net.imds', 'a sentence', () => {})")).toEqual(['net.imds']);
  expect(idsOfTest("verifies(\n  ['a.b', 'c.d'],\n  'x')")).toEqual(['a.b', 'c.d']);
  expect(idsOfTest("const t = ['net.imds', 'other'];\nverifies(id, 'x')")).toEqual(['net.imds']);
  expect(idsOfTest("const t = ['net.imds'];")).toEqual([]);
  expect(idsOfScript('# a sentence\n# verifies: net.imds gw.ssrf\nexec belay\n')).toEqual([
    'net.imds',
    'gw.ssrf',
  ]);
});

verifies('repo.requirements', 'running by id finds exactly the tests that cite it', () => {
  const pattern = new RegExp(patternFor(['net.imds']));
  for (const name of ['[net.imds] x', '[a.b net.imds] x', 'suite [net.imds c.d] x']) {
    expect(pattern.test(name), name).toBe(true);
  }
  for (const name of ['[net.imds-2] x', '[anet.imds] x', '[net-imds] x', 'net.imds x']) {
    expect(pattern.test(name), name).toBe(false);
  }
  expect(idsOf('suite > [a.b c.d] sentence')).toEqual(['a.b', 'c.d']);
});

verifies(
  'repo.requirements',
  'every guarantee of the threat model is shown by requirements',
  () => {
    const text = readFileSync(join(ROOT, 'THREAT-MODEL.md'), 'utf8');
    const table = /^## Guarantees$(.*?)^## /ms.exec(text)?.[1] ?? '';
    const rows = table.split('\n').filter((line) => /^\| (?!guarantee )/.test(line));
    expect(rows.length).toBeGreaterThan(10);
    for (const row of rows) {
      const ids = [...(row.split('|')[2] as string).matchAll(/`([^`]+)`/g)].map(
        ([, id]) => id as string,
      );
      expect(ids.length, row).toBeGreaterThan(0);
      expect(
        ids.filter((id) => !isRequirement(id)),
        row,
      ).toEqual([]);
    }
  },
);

test('every runtime dependency has its reason, and no other has one', () => {
  const { dependencies } = JSON.parse(
    readFileSync(join(ROOT, 'packages/belay/package.json'), 'utf8'),
  ) as { readonly dependencies: Readonly<Record<string, string>> };
  const text = readFileSync(join(ROOT, 'docs/dependencies.md'), 'utf8');
  const listed = [...text.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name);
  expect(listed.sort()).toEqual(Object.keys(dependencies).sort());
  for (const version of Object.values(dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
});

test('the documents link to what exists', () => {
  const documents = globSync('{*.md,docs/**/*.md,packages/belay/README.md}', { cwd: ROOT });
  expect(documents.length).toBeGreaterThan(10);
  for (const document of documents) {
    const text = readFileSync(join(ROOT, document), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)#]+)/g)) {
      expect(existsSync(join(ROOT, dirname(document), target)), `${document}: ${target}`).toBe(
        true,
      );
    }
  }
});

test('a skip without a reason, a problem and a run of nothing all count as failed', () => {
  const base = { file: 'a.test.ts', durationMs: 1 };
  const results = {
    tree: '',
    tests: [
      { ...base, name: 'good', state: 'passed' },
      { ...base, name: 'bad', state: 'failed' },
      { ...base, name: 'excused', state: 'skipped', reason: 'no such kernel' },
      { ...base, name: 'silent', state: 'skipped' },
    ],
    problems: ['b.test.ts does not load'],
  } as const;
  expect(tallyOf(results)).toEqual({ passed: 1, failed: 3, skipped: 1 });
  const lines = closing(results).trimEnd().split('\n');
  expect(lines.at(-1)).toBe('1 passed, 3 failed, 1 skipped');
  expect(lines).toContain('skipped: excused: no such kernel');
  expect(tallyOf({ tree: '', tests: [], problems: [] }).failed).toBe(1);
});

test('a mutant names what catches it and changes only the product', () => {
  const head = '# answers imds\n# caught-by: net.imds\n';
  const diff = (path: string) => `diff --git a/${path} b/${path}\n--- a/${path}\n+++ b/${path}\n`;
  const source = diff('packages/belay/src/a.ts');
  expect(parseMutant(head + source)).toEqual({ ids: ['net.imds'], files: [] });
  expect(parseMutant(`${head}# in: a.test.ts b.test.ts\n${source}`).files).toEqual([
    'a.test.ts',
    'b.test.ts',
  ]);
  expect(parseMutant(source).problem).toContain('caught-by');
  expect(parseMutant(`# caught-by: no.such\n${source}`).problem).toContain('no.such');
  expect(parseMutant(head + diff('packages/belay/test/a.ts')).problem).toContain('never a test');
  expect(parseMutant(head).problem).toContain('nothing');
});
