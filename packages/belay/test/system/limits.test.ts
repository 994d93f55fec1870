// What a run may use of its host. As root a cgroup limits the run as a whole, as an ordinary user
// resource limits stand in; either way the same program goes on outside.

import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { openPlace, type Place } from './place.ts';

const PROCESSES = 64;
const WANTED = 300;
const FORKS = `my $n = 0; for (1 .. ${WANTED}) {
  my $pid = fork; last unless defined $pid; if ($pid == 0) { sleep 60; exit } $n++; push @all, $pid }
  print "forked $n\\n"; sleep 2; kill 'KILL', @all; wait for @all;`;
// Two processes, each far below the limit, hold what they have until both have all of it.
const TOGETHER = `pipe my $r, my $w; for (1 .. 2) { my $pid = fork; if ($pid) { push @all, $pid; next }
  push @had, 'x' x (30 << 20) for 1 .. 5; syswrite $w, 'x'; sleep 3; exit }
  close $w; my $both = sysread($r, my $x, 1) && sysread($r, $x, 1); kill 'KILL', @all;
  print $both ? "both\\n" : "killed\\n"; exit !$both`;
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
  'a fork bomb stops at the limit of its run, and the run beside it has a limit of its own',
  async () => {
    const bomb = () => place.run([], ['perl', '-e', FORKS], { timeoutMs: 60_000 });
    for (const run of await Promise.all([bomb(), bomb()])) {
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

verifies(
  'lim.memory',
  'the limit is of the run, not of each of its processes',
  async () => {
    const run = await place.run([], ['perl', '-e', TOGETHER], { timeoutMs: 60_000 });
    expect(run.status, run.stderr).not.toBe(0);
    expect(run.stdout).not.toContain('both');
    const outside = await place.outside(['perl', '-e', TOGETHER]);
    expect(outside.stdout).toContain('both\n');
  },
  {
    timeoutMs: 90_000,
    skip:
      process.getuid?.() !== 0 && 'without a cgroup each process has the limit: limits are weak',
  },
);
