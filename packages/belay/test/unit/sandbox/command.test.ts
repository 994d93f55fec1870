// Where a command's program is found, and what of the host must be visible for it.

import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { commandBinds } from '../../../src/sandbox/command.ts';

let base: string;
beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'belay-command-')));
});
afterEach(() => rmSync(base, { recursive: true }));

function program(path: string, text = '#!/bin/sh\n'): string {
  const file = join(base, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  chmodSync(file, 0o755);
  return file;
}
const place = () => ({ cwd: base, home: join(base, 'home'), workdir: join(base, 'home/work') });
const binds = (command: string, path = '/usr/bin') => commandBinds([command, 'x'], path, place());

test('a program of /usr needs nothing and keeps its name', () => {
  expect(binds('sh')).toEqual({ command: ['sh', 'x'], env: {}, readOnly: [] });
  expect(binds('/bin/sh').command).toEqual(['/bin/sh', 'x']);
});

test('a package in node_modules is shown with its siblings', () => {
  const file = program('tools/node_modules/agent/cli.js');
  mkdirSync(join(base, 'tools/node_modules/.bin'));
  symlinkSync('../agent/cli.js', join(base, 'tools/node_modules/.bin/agent'));
  expect(binds('agent', join(base, 'tools/node_modules/.bin'))).toEqual({
    command: [file, 'x'],
    env: {},
    readOnly: [join(base, 'tools/node_modules')],
  });
});

test('nested packages are shown from the outermost node_modules', () => {
  program('t/node_modules/.pnpm/a@1/node_modules/a/cli.js');
  const found = binds(join(base, 't/node_modules/.pnpm/a@1/node_modules/a/cli.js'));
  expect(found.readOnly).toEqual([join(base, 't/node_modules')]);
});

test('an interpreter outside /usr comes along and is in front of PATH', () => {
  program('opt/lang/bin/lang');
  program('tools/bin/agent', '#!/usr/bin/env lang\n');
  const path = [join(base, 'opt/lang/bin'), join(base, 'tools/bin')].join(':');
  expect(binds('agent', path)).toEqual({
    command: [join(base, 'tools/bin/agent'), 'x'],
    env: { PATH: `${join(base, 'opt/lang/bin')}:/usr/local/bin:/usr/bin:/bin` },
    readOnly: [join(base, 'tools/bin'), join(base, 'opt/lang/bin')],
  });
});

test('a home, a folder above the workspace and the root are never shown whole', () => {
  const inHome = program('home/agent');
  expect(binds(inHome).readOnly).toEqual([inHome]);
  const above = program('agent');
  expect(binds(above).readOnly).toEqual([above]);
});

test('a program in the workspace needs no bind', () => {
  const file = program('home/work/run.sh');
  expect(binds(file)).toEqual({ command: [file, 'x'], env: {}, readOnly: [] });
});

test('a relative path is found from the folder of the caller', () => {
  const file = program('tools/bin/agent');
  expect(binds('./tools/bin/agent').command[0]).toBe(file);
});

test('a program that is not there is refused by name', () => {
  expect(() => binds('no-such-program')).toThrow('command `no-such-program` not found');
  expect(() => binds('')).toThrow('not found');
});
