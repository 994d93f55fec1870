// An interactive agent keeps its terminal: tmux holds the screen, and the test types and looks.

import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { NODE, openPlace, type Place } from './place.ts';
import { openScreen, type Screen } from './screen.ts';

// Prints its size, says when it changes, and outlives Ctrl-C.
const AGENT = [
  '$| = 1;',
  'sub size { my $s = `stty size`; chomp $s; return $s }',
  'print "size ", size(), "\\n";',
  '$SIG{WINCH} = sub { print "now ", size(), "\\n" };',
  '$SIG{INT} = sub { print "interrupted\\n" };',
  'my $n = 0;',
  'until (-e "quit") { select(undef, undef, undef, 0.1); print "tick ", ++$n, "\\n" if -e "tick"}',
].join(' ');

let place: Place;

beforeAll(async () => {
  place = await openPlace();
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
}, 60_000);

function belayRun(): string {
  place.put('agent.pl', AGENT);
  return `'${NODE}' '${place.session.launcher}' run -- perl agent.pl`;
}

verifies(
  'tty.resize',
  'an interactive agent sees its terminal and each new size',
  async () => {
    await using screen = await openScreen(place.session);
    await screen.type(belayRun(), 'Enter');
    await screen.waitFor(/^size 30 100$/m);
    await screen.resize(120, 40);
    await screen.waitFor(/^now 40 120$/m);
    await screen.resize(80, 24);
    await screen.waitFor(/^now 24 80$/m);
    await quit(screen);
    await screen.type('stty -a | head -1', 'Enter');
    await screen.waitFor(/rows 24; columns 80/);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'tty.interrupt',
  'Ctrl-C reaches an interactive agent, and Ctrl-Z suspends the run until `fg`',
  async () => {
    await using screen = await openScreen(place.session);
    place.put('tick', '');
    await screen.type(belayRun(), 'Enter');
    await screen.waitFor(/^tick 3$/m);
    await screen.type('C-c');
    await screen.waitFor(/interrupted$/m);
    await screen.waitFor(/interrupted\n(?:.*\n)*?tick \d+$/m);
    await screen.type('C-z');
    await screen.waitFor(/Stopped/);
    const stopped = await lastTick(screen);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(await lastTick(screen)).toBe(stopped);
    await screen.type('fg', 'Enter');
    await screen.waitFor(new RegExp(`^tick ${stopped + 2}$`, 'm'));
    await quit(screen);
  },
  { timeoutMs: 40_000 },
);

/** Lets the agent end, and waits for the summary. */
async function quit(screen: Screen): Promise<void> {
  const file = place.put('quit', '');
  await screen.waitFor(/^belay: r-\w{8}: 0 calls/m);
  rmSync(file);
}

async function lastTick(screen: Screen): Promise<number> {
  return Number([...(await screen.text()).matchAll(/^tick (\d+)$/gm)].at(-1)?.[1]);
}
