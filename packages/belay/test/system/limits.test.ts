// What a run may use of its host. As root a cgroup limits the run as a whole, as an ordinary user
// resource limits stand in; either way the same program goes on outside.

import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { openPlace, type Place } from './place.ts';

const PROCESSES = 64;
const WANTED = 300;
const FORKS = `my $n = 0; for (1 .. ${WANTED}) {
  my $pid = fork; last unless defined $pid; if ($pid == 0) { sleep 60; exit } $n++; push @all, $pid }
  print "forked $n\\n"; kill 'KILL', @all; wait for @all;`;
const BLOCKS = 24;
// Written, so that it is there; each block apart, so that what was had is known.
const MEMORY = `$| = 1; for (1 .. ${BLOCKS}) {
  push @all, 'x' x (32 << 20); print "block $_\\n" } print "all\\n";`;

let place: Place;

beforeAll(async () => {
  place = await openPlace({ limits: { processes: PROCESSES, memory: '256MiB' } });
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
}, 60_000);

verifies(
  'lim.forkbomb',
  'a fork bomb stops at the limit of its run, and the next run has a limit of its own',
  async () => {
    for (let again = 0; again < 2; again++) {
      const run = await place.run([], ['perl', '-e', FORKS], { timeoutMs: 60_000 });
      expect(run.status, run.stderr).toBe(0);
      const forked = Number(/forked (\d+)/.exec(run.stdout)?.[1]);
      expect(forked).toBeGreaterThan(PROCESSES / 2);
      expect(forked).toBeLessThan(PROCESSES);
    }
    const outside = await place.outside(['perl', '-e', FORKS]);
    expect(outside.stdout).toBe(`forked ${WANTED}\n`);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'lim.memory',
  'a run that takes more memory than its limit is refused or killed',
  async () => {
    const run = await place.run([], ['perl', '-e', MEMORY], { timeoutMs: 60_000 });
    expect(run.status).not.toBe(0);
    expect(run.stdout).toContain('block 3\n');
    expect(run.stdout).not.toContain('block 8\n');
    const outside = await place.outside(['perl', '-e', MEMORY]);
    expect(outside.stdout).toContain('all\n');
  },
  { timeoutMs: 90_000 },
);
