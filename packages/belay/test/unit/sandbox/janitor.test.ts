// What dead runs left is removed, and living ones are not touched.

import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { janitor, reliedUpon } from '../../../src/sandbox/janitor.ts';
import { readOwner, writeOwner } from '../../../src/sandbox/owner.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'belay-janitor-'));
  mkdirSync(join(base, 'runs'));
  mkdirSync(join(base, 'work'));
});
afterEach(() => rmSync(base, { recursive: true }));

function run(name: string, start?: string): string {
  const folder = join(base, 'runs', name);
  mkdirSync(folder);
  const path = join(base, 'work', '.envrc');
  writeFileSync(path, '');
  const placeholders = [{ path, kind: 'file', content: '' }] as const;
  writeOwner(folder, { workdir: join(base, 'work'), placeholders, cgroups: [] });
  if (start !== undefined) {
    const owner = { ...readOwner(folder), start };
    writeFileSync(join(folder, 'owner.json'), JSON.stringify(owner));
  }
  return folder;
}
const now = () => Date.now();

test('a dead run goes with its placeholders', () => {
  const folder = run('r-dddddddd', '1');
  expect(janitor(join(base, 'runs'), now)).toEqual(['r-dddddddd']);
  expect(existsSync(folder)).toBe(false);
  expect(existsSync(join(base, 'work/.envrc'))).toBe(false);
});

test('a living run stays, with what a dead one shares with it', () => {
  run('r-dddddddd', '1');
  const living = run('r-bbbbbbbb');
  expect(janitor(join(base, 'runs'), now)).toEqual(['r-dddddddd']);
  expect(existsSync(living)).toBe(true);
  expect(existsSync(join(base, 'work/.envrc'))).toBe(true);
  expect([...reliedUpon(join(base, 'runs'), 'r-bbbbbbbb')]).toEqual([]);
  expect([...reliedUpon(join(base, 'runs'), 'r-zzzzzzzz')]).toEqual([join(base, 'work/.envrc')]);
});

test('a folder without an owner is left until it is old', () => {
  const folder = join(base, 'runs', 'r-nnnnnnnn');
  mkdirSync(folder);
  writeFileSync(join(folder, 'owner.json'), '{"v":1,"pid":');
  expect(janitor(join(base, 'runs'), now)).toEqual([]);
  utimesSync(folder, 1, 1);
  expect(janitor(join(base, 'runs'), now)).toEqual(['r-nnnnnnnn']);
});

test("a folder that is no run's is left alone", () => {
  const folder = join(base, 'runs', 'something');
  mkdirSync(folder);
  utimesSync(folder, 1, 1);
  expect(janitor(join(base, 'runs'), now)).toEqual([]);
  expect(existsSync(folder)).toBe(true);
});

test('a folder that cannot be read has no runs', () => {
  expect(janitor(join(base, 'none'), now)).toEqual([]);
});
