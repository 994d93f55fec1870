// Nothing of a run stays: what left its session and its parent ends with the run that is killed, that
// is over, or whose launcher was killed, and from then on nothing connects. Outside the same program
// leaves a process behind each time.

import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, globSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { bridgeOf, processesBelow, processesWith, startBeating } from './beats.ts';
import {
  agentIds,
  eventually,
  isAlive,
  lines,
  openPlace,
  type Place,
  type Started,
} from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const SETTLED_MS = 200;

let upstream: Upstream;
let place: Place;
let made = 0;

beforeAll(async () => {
  upstream = await startUpstream(['api.example']);
  place = await openPlace({ upstreams: { 'api.example': upstream } });
  const program = join(place.workdir, 'leaver.pl');
  copyFileSync(join(import.meta.dirname, 'inside/leaver.pl'), program);
  chmodSync(program, 0o644);
  mkdirSync(join(place.workdir, 'beats'));
  // The control beats outside, as the agent's uid.
  chmodSync(join(place.workdir, 'beats'), 0o777);
}, 60_000);

afterAll(async () => {
  // What a broken sandbox left, so that the test's failure is all that stays.
  const programs = ['leaver.pl', 'beats.mjs'].map((name) => join(place.workdir, name));
  for (const pid of programs.flatMap(processesWith)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

interface Leaver {
  readonly command: readonly string[];
  /** Times that it was heard so far, under either name. */
  heard(name: 'left' | 'stayed'): number;
  pid(): number;
}

function leaver(...flags: readonly 'leave'[]): Leaver {
  made += 1;
  const file = join(place.workdir, `beats/${made}.txt`);
  const words = () => lines(file).map((line) => line.split(' '));
  return {
    command: ['perl', join(place.workdir, 'leaver.pl'), file, ...flags],
    heard: (name) => words().filter(([first]) => first === name).length,
    pid: () => Number(words().find(([first]) => first === 'left')?.[1]),
  };
}

async function startLeaver(): Promise<Started & Leaver & { readonly run: string }> {
  const program = leaver();
  const started = place.start([], program.command);
  const run = await place.openRun();
  await bothHeard(program);
  return { ...started, ...program, run };
}

async function bothHeard({ heard }: Leaver): Promise<void> {
  await eventually(
    'beats of both',
    () => Math.min(heard('left'), heard('stayed')) > 3 || undefined,
  );
}

async function expectSilence(program: Leaver): Promise<void> {
  const before = [program.heard('left'), program.heard('stayed')];
  await sleep(SETTLED_MS);
  expect([program.heard('left'), program.heard('stayed')]).toEqual(before);
  expect(processesWith(program.command.join(' '))).toEqual([]);
}

/** Outside the one that left goes on, until the test ends it. */
async function expectLeftBehind(program: Leaver): Promise<void> {
  const pid = program.pid();
  const before = program.heard('left');
  await eventually(
    'beats of what was left behind',
    () => program.heard('left') > before + 3 || undefined,
  );
  expect(isAlive(pid)).toBe(true);
  process.kill(pid, 'SIGKILL');
}

verifies(
  'kill.setsid-double-fork',
  'a kill, and the end of a run, reach what left its session and its parent',
  async () => {
    const agent = await startLeaver();
    const killed = await place.session.belay(['kill', agent.run]);
    expect(killed.status, killed.stderr).toBe(0);
    await expectSilence(agent);
    expect((await agent.ended).status).toBe(5);

    const brief = leaver('leave');
    expect((await place.run([], brief.command)).status).toBe(0);
    expect(brief.heard('left')).toBeGreaterThan(0);
    await expectSilence(brief);

    const outside = leaver('leave');
    expect((await place.outside(outside.command)).status).toBe(0);
    await expectLeftBehind(outside);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'kill.launcher-sigkill',
  'nothing of a run outlives its launcher, and its end is in the ledger',
  async () => {
    const agent = await startLeaver();
    const bridge = bridgeOf(place, agent.run) as number;
    agent.child.kill('SIGKILL');
    const killedMs = Date.now();
    await eventually('end of all', () => {
      const all = [
        ...processesWith(agent.command.join(' ')),
        ...processesBelow(place.session.home),
      ];
      return all.length === 0 || undefined;
    });
    expect(Date.now() - killedMs).toBeLessThan(2_000);
    expect(isAlive(bridge)).toBe(false);
    await expectSilence(agent);
    await eventually('run.close', async () =>
      (await place.entries(agent.run)).find(({ type }) => type === 'run.close'),
    );
    const cgroups = () => globSync(`/sys/fs/cgroup/{,*/}belay-${agent.run}`);
    await eventually('end of its cgroups', () => cgroups().length === 0 || undefined);

    const outside = leaver();
    const parent = spawn(outside.command[0] as string, outside.command.slice(1), {
      stdio: 'ignore',
      ...(process.getuid?.() === 0 ? agentIds() : {}),
    });
    await bothHeard(outside);
    parent.kill('SIGKILL');
    await expectLeftBehind(outside);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'net.launcher-killed-closed',
  'with the launcher dead nothing connects, even while its bridge is held',
  async () => {
    const agent = await startBeating(place, ['--allow', 'api.example'], 'https://api.example/');
    await eventually('call', () => agent.calls().some(({ what }) => what === '200') || undefined);
    const bridge = bridgeOf(place, agent.run) as number;
    // Held, it cannot see that its launcher is gone: what ends it is its death signal.
    process.kill(bridge, 'SIGSTOP');
    agent.child.kill('SIGKILL');
    await eventually('end of the bridge', () => !isAlive(bridge) || undefined, 5_000);
    await eventually(
      'end of the agent',
      () => processesWith(join(place.workdir, 'beats.mjs')).length === 0 || undefined,
      5_000,
    );
    // What had passed the bridge before may still arrive.
    await sleep(500);
    upstream.arrivals.length = 0;
    await sleep(500);
    expect(upstream.arrivals).toEqual([]);

    const again = await place.attempt(
      ['--allow', 'api.example'],
      [['request', 'https://api.example/']],
    );
    expect(again.results[0]?.value.status, 'the next run').toBe(200);
  },
  { timeoutMs: 40_000 },
);
