import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { openSession, processesOn } from '../installed.ts';
import { parseScript, runScript } from '../script-runner.ts';

const script = (lines: string): Promise<void> => runScript(parseScript(`# a script\n${lines}\n`));

test('a script that holds passes', { timeout: 60_000 }, async () => {
  await script(`
exec sh -c 'cat; cat a/b.txt; echo $WORD; echo oops >&2'
stdout ^inside$
stderr ^oops$
! stdout oops
stdin a/b.txt
env WORD=known
exec sh -c 'cat; echo $WORD'
stdout '^known$'
! exec sh -c 'exit 7'
status 7
-- a/b.txt --
inside
`);
});

test('a line that does not hold fails its script', { timeout: 60_000 }, async () => {
  for (const [lines, why] of [
    ['exec false', 'ended with 1'],
    ['! exec true', 'ended with 0'],
    ['exec true\nstatus 3', 'the status is 0'],
    ['exec echo a\nstdout b', 'not found'],
    ['exec echo a\n! stdout a', 'found'],
    ['exec true\nsleep 1', 'no such command'],
  ] as const) {
    await expect(script(lines), lines).rejects.toThrow(why);
  }
  expect(() => parseScript('# only words\n')).toThrow('runs something');
  expect(() => parseScript('exec true\n')).toThrow('begins with a comment');
});

test('a session ends what it started and removes its home', { timeout: 60_000 }, async () => {
  const session = await openSession();
  const { home } = session;
  // Detached and deaf to SIGTERM, as a daemon that hangs would be.
  const deaf = "setsid sh -c 'trap : TERM; while :; do sleep 0.1; done' >/dev/null 2>&1 &";
  await session.exec(['sh', '-c', deaf]);
  await sleep(100);
  expect(processesOn(home).length).toBeGreaterThan(0);
  await session[Symbol.asyncDispose]();
  expect(processesOn(home)).toEqual([]);
  expect(existsSync(session.workdir)).toBe(false);
});

test('a program that never ends is ended', { timeout: 60_000 }, async () => {
  await using session = await openSession();
  const done = await session.exec(['sleep', '100'], { timeoutMs: 200 });
  expect(done.timedOut).toBe(true);
  expect(done.durationMs).toBeLessThan(5_000);
});
