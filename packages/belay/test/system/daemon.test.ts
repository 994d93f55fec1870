// The daemon and its guard from outside: one daemon for all runs of a home, and no free agent when
// either of the two is frozen or dead. Signals are sent by pid to processes that the test started.

import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { bridgeOf, guardOf, processesBelow, processesWith, startBeating } from './beats.ts';
import { eventually, isAlive, openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const FROZEN_WITHIN_MS = 700;
const LINGER_MS = 60_000;

let upstream: Upstream;
/** A daemon that nobody uses any more; it leaves while the other tests run. */
let left: { readonly place: Place; readonly pid: number; readonly atMs: number };

beforeAll(async () => {
  upstream = await startUpstream(['api.example']);
  const place = await openPlace();
  await place.run([], ['true']);
  // A run that the daemon refuses is no run: it must not keep the daemon.
  const refused = await place.run(['--allow', 'not a host'], ['true']);
  expect(refused.status, refused.stderr).toBe(2);
  left = { place, pid: (await place.status()).pid, atMs: Date.now() };
}, 60_000);

afterAll(async () => {
  await left?.place[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

const withUpstream = (): Promise<Place> => openPlace({ upstreams: { 'api.example': upstream } });

verifies(
  'guard.sigstop',
  'with the daemon stopped the agent freezes within 700 ms, and thaws with it',
  async () => {
    await using place = await openPlace();
    const agent = await startBeating(place);
    const { pid } = await place.status();
    process.kill(pid, 'SIGSTOP');
    const stoppedMs = Date.now();
    try {
      await sleep(2_000);
      expect(agent.beats().at(-1)).toBeLessThanOrEqual(stoppedMs + FROZEN_WITHIN_MS);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    const resumedMs = Date.now();
    await eventually('beat after the thaw', () => {
      return agent.beats().some((at) => at > resumedMs) || undefined;
    });
    expect(agent.stderr()).toContain(`${agent.run} is frozen`);
    expect(agent.stderr()).toContain(`${agent.run} goes on`);
    const types = (await place.entries()).map(({ type }) => type);
    expect(types).toContain('guard.frozen');
    expect(types).toContain('guard.thawed');
    await place.session.belay(['kill', agent.run]);
    expect((await agent.ended).status).toBe(5);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'guard.ended-frozen',
  'a sandbox whose first process ends while it is frozen is no run that hangs',
  async () => {
    await using place = await openPlace();
    const agent = await startBeating(place);
    const { pid } = await place.status();
    process.kill(pid, 'SIGSTOP');
    try {
      await eventually('the freeze', () => agent.stderr().includes('is frozen') || undefined);
      process.kill(firstOf(place, agent.child.pid as number), 'SIGKILL');
      // Its record waits for the daemon; what the agent was is gone before.
      await eventually(
        'the launcher alone',
        () => {
          return processesWith(place.workdir).join() === `${agent.child.pid}` || undefined;
        },
        5_000,
      );
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    expect((await agent.ended).status, agent.stderr()).toBe(137);
  },
  { timeoutMs: 40_000 },
);

/** The first process of a launcher's sandbox: the only child of the launcher's child that makes it. */
function firstOf({ workdir }: Place, launcher: number): number {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((one) => /^\d+$/.test(one))) {
    try {
      const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1];
      parents.set(Number(name), Number(parent));
    } catch {
      // It ended.
    }
  }
  const agent = processesWith(workdir).filter((pid) => pid !== launcher);
  let at = agent.at(-1) as number;
  for (let up = 0; up < 10; up++) {
    const parent = parents.get(at) as number;
    if (parents.get(parent) === launcher) return at;
    at = parent;
  }
  throw new Error('no sandbox of this launcher');
}

verifies(
  'guard.daemon-killed',
  'with the daemon dead the run is cut and frozen for good, and Ctrl-C ends it with 5',
  async () => {
    await using place = await openPlace();
    const agent = await startBeating(place);
    const bridge = bridgeOf(place, agent.run) as number;
    expect(await linked(place, bridge), 'the link before').toBe(true);
    const { pid } = await place.status();
    process.kill(pid, 'SIGKILL');
    const killedMs = Date.now();
    await eventually('word from the launcher', () => {
      return agent.stderr().includes(`${agent.run} is cut off and frozen`) || undefined;
    });
    await sleep(1_500);
    expect(agent.beats().at(-1)).toBeLessThanOrEqual(killedMs + FROZEN_WITHIN_MS);
    expect(await linked(place, bridge), 'the link after').toBe(false);
    expect(agent.child.exitCode).toBe(null);
    agent.child.kill('SIGINT');
    expect((await agent.ended).status).toBe(5);
    await eventually('end of the bridge', () => !isAlive(bridge) || undefined);
  },
  { timeoutMs: 40_000 },
);

/** Whether the veth of a run is there, as seen from its bridge. */
async function linked({ session }: Place, bridge: number): Promise<boolean> {
  const enter = ['nsenter', '-t', `${bridge}`, '--user', '--net', '--preserve-credentials'];
  const { status, stderr } = await session.exec([...enter, '--', 'ip', 'link', 'show', 'v0']);
  if (status !== 0) expect(stderr).toContain('does not exist');
  return status === 0;
}

verifies(
  'guard.kill-without-daemon',
  '`belay kill RUN` ends a frozen run when there is no daemon',
  async () => {
    await using place = await openPlace();
    const agent = await startBeating(place);
    const bridge = bridgeOf(place, agent.run) as number;
    process.kill((await place.status()).pid, 'SIGKILL');
    await eventually('word from the launcher', () => {
      return agent.stderr().includes('the daemon died') || undefined;
    });
    const killed = await place.session.belay(['kill', agent.run, '--json']);
    expect(killed.stderr).toBe('');
    expect(JSON.parse(killed.stdout)).toMatchObject({ killed: [agent.run], by: 'guard' });
    expect((await agent.ended).status).toBe(5);
    await eventually('end of the bridge', () => !isAlive(bridge) || undefined);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'guard.guard-killed',
  'with the guard dead every call is denied until a new one has acknowledged the run',
  async () => {
    await using place = await withUpstream();
    const agent = await startBeating(place, ['--allow', 'api.example'], 'https://api.example/');
    await eventually('call', () => agent.calls().some(({ what }) => what === '200') || undefined);
    const first = guardOf(place);
    process.kill(first, 'SIGKILL');
    await eventually('denied call', () => {
      return agent.calls().some(({ what }) => what === '503') || undefined;
    });
    const denied = agent.calls().findLastIndex(({ what }) => what === '503');
    await eventually('call after the new guard', () => {
      return (
        agent
          .calls()
          .slice(denied)
          .some(({ what }) => what === '200') || undefined
      );
    });
    expect(guardOf(place)).not.toBe(first);
    expect((await place.status()).guard).toBe('acknowledged');
    await place.session.belay(['kill', agent.run]);
    await agent.ended;

    const entries = await place.entries();
    const lost = entries.findIndex(({ type }) => type === 'guard.lost');
    const found = entries.findIndex(({ type }, i) => i > lost && type === 'guard.acknowledged');
    expect(lost).toBeGreaterThan(0);
    expect(found).toBeGreaterThan(lost);
    // A call may be refused in the turn before the loss is written down, or before its run is known again.
    const refused = entries.findIndex(
      (entry) => entry.type === 'denial' && entry.code === 'guard.lost',
    );
    expect(refused).toBeGreaterThan(0);
    const between = entries.slice(Math.min(lost, refused), found);
    expect(between.map(({ type }) => type)).not.toContain('intent');
  },
  { timeoutMs: 40_000 },
);

verifies(
  'daemon.shared',
  'two runs at once share one daemon, one ledger and the caps of the home',
  async () => {
    await using place = await withUpstream();
    mkdirSync(place.session.home, { mode: 0o700 });
    const config = join(place.session.home, 'belay.jsonc');
    writeFileSync(config, '{ "version": 1, "caps": { "calls": 6 } }\n');
    chmodSync(config, 0o644);
    upstream.arrivals.length = 0;
    const work = [
      ['requests', 'https://api.example/shared', 5],
      ['shell', 'sleep 1'],
    ] as const;
    // Two launchers, and no daemon yet: one of them starts it.
    const runs = await Promise.all(
      [1, 2].map(() => place.attempt(['--allow', 'api.example'], work)),
    );
    expect(runs.map(({ run }) => run.status)).toEqual([0, 0]);
    const statuses = runs.flatMap(({ results }) =>
      ((results[0]?.value ?? []) as readonly { status: number }[]).map(({ status }) => status),
    );
    expect(statuses.filter((status) => status === 200)).toHaveLength(6);
    expect(statuses.filter((status) => status === 403)).toHaveLength(4);
    expect(upstream.arrivals).toHaveLength(6);

    const entries = await place.entries();
    const count = (type: string) => entries.filter((entry) => entry.type === type).length;
    expect([count('daemon.start'), count('run.open'), count('run.close')]).toEqual([1, 2, 2]);
    const open = entries.flatMap((entry, i) => (entry.type === 'run.open' ? [i] : []));
    const close = entries.findIndex(({ type }) => type === 'run.close');
    expect(Math.max(...open), 'both were open at once').toBeLessThan(close);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'daemon.second-refused',
  'a second daemon on one home is refused with one clear line',
  async () => {
    await using place = await openPlace();
    await place.run([], ['true']);
    const { pid } = await place.status();
    const second = await place.session.belay(['up'], { timeoutMs: 20_000 });
    expect(second.status).toBe(69);
    // By the lock: a second one that got as far as the guard would have written to the ledger.
    expect(second.stderr).toMatch(
      /^belay: error: another daemon owns this home\nbelay: hint: .*\n$/,
    );
    expect((await place.status()).pid).toBe(pid);
    expect((await place.session.belay(['log', 'verify'])).status).toBe(0);
    expect((await place.run([], ['true'])).status).toBe(0);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'daemon.race',
  'launchers that start at once share one daemon, and one waits for the lock of a daemon that leaves',
  async () => {
    await using place = await openPlace();
    for (let round = 0; round < 3; round++) {
      const runs = await Promise.all([1, 2, 3].map(() => place.run([], ['true'])));
      for (const { status, stderr } of runs) expect(status, stderr).toBe(0);
      expect((await place.session.belay(['down'])).status).toBe(0);
    }
    const starts = (await place.entries()).filter(({ type }) => type === 'daemon.start');
    expect(starts.length).toBe(3);
    // What a daemon that leaves looks like at its last moment: no socket, but the lock.
    const lock = new DatabaseSync(join(place.session.home, 'run/daemon.lock'));
    lock.exec('BEGIN EXCLUSIVE');
    const late = place.run([], ['true']);
    await sleep(2_000);
    lock.close();
    const { status, stderr } = await late;
    expect(status, stderr).toBe(0);
  },
  { timeoutMs: 60_000 },
);

verifies(
  ['daemon.restart', 'log.outcome-unknown'],
  'a daemon restarts on the same ledger after SIGKILL, and what was open becomes unknown',
  async () => {
    await using place = await withUpstream();
    const asked = Promise.withResolvers<void>();
    // An agent of an earlier test may have sent its last just now.
    upstream.answer = (request, reply) => {
      if (request.url === '/never-answered') asked.resolve();
      else reply.end('ok\n');
    };
    const work = [['request', 'https://api.example/never-answered']] as const;
    const first = place.attempt(['--allow', 'api.example'], work);
    // A run that could not ask says why.
    await Promise.race([asked.promise, first]);
    upstream.answer = (_request, reply) => void reply.end('ok\n');
    const { runs, pid } = await place.status();
    process.kill(pid, 'SIGKILL');
    await eventually('end of the daemon', () => !isAlive(pid) || undefined);
    const run = runs[0]?.run as string;
    // Nothing is left to kill when the agent heard of the reset before it was frozen.
    await place.session.belay(['kill', run]);
    await first.catch(() => {}); // the probe of a killed run says nothing

    const again = await place.attempt(
      ['--allow', 'api.example'],
      [['request', 'https://api.example/']],
    );
    expect(again.results[0]?.value.status).toBe(200);
    expect((await place.status()).pid).not.toBe(pid);
    const entries = await place.entries();
    expect(entries.map(({ index }) => index)).toEqual(entries.map((_, i) => i));
    const intent = entries.find((entry) => entry.type === 'intent' && entry.run === run);
    const call = intent?.type === 'intent' ? intent.call : '';
    expect(entries).toContainEqual(expect.objectContaining({ type: 'outcome.unknown', run, call }));
    expect(entries.filter((entry) => entry.type === 'run.close' && entry.run === run)).toHaveLength(
      1,
    );
    expect((await place.session.belay(['log', 'verify'])).status).toBe(0);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'net.bridge-dead-closed',
  'with the bridge dead nothing connects any more, and the run ends',
  async () => {
    await using place = await withUpstream();
    const agent = await startBeating(place, ['--allow', 'api.example'], 'https://api.example/');
    await eventually('call', () => agent.calls().some(({ what }) => what === '200') || undefined);
    const bridge = bridgeOf(place, agent.run) as number;
    // The launcher would end the run at once: held still, it lets the agent go on trying.
    agent.child.kill('SIGSTOP');
    process.kill(bridge, 'SIGKILL');
    const killedMs = Date.now();
    await eventually('end of the bridge', () => !isAlive(bridge) || undefined);
    // What the bridge had passed on when it died may still arrive.
    await sleep(250);
    upstream.arrivals.length = 0;
    await sleep(1_500);
    expect(upstream.arrivals).toEqual([]);
    const after = agent.calls().filter(({ atMs }) => atMs > killedMs + 250);
    expect(after.map(({ what }) => what)).not.toContain('200');
    agent.child.kill('SIGCONT');
    const { status } = await agent.ended;
    expect(status).toBe(69);
    expect(agent.stderr()).toContain('bridge');
    await eventually(
      'last process',
      () => processesBelow(place.session.home).length === 0 || undefined,
    );
  },
  { timeoutMs: 40_000 },
);

verifies(
  'daemon.leaves',
  'a daemon that a run started leaves 60 s after its last run, and not before',
  async () => {
    const { place, pid, atMs } = left;
    const early = atMs + LINGER_MS - 5_000 - Date.now();
    if (early > 0) {
      await sleep(early);
      expect(isAlive(pid), 'before its time').toBe(true);
    }
    await eventually('end of the daemon', () => !isAlive(pid) || undefined, 15_000);
    const entries = await place.entries();
    const last = entries.at(-1);
    expect(last).toMatchObject({ type: 'daemon.stop' });
    const close = entries.find(({ type }) => type === 'run.close');
    const lingered = (last?.ts ?? 0) - (close?.ts ?? 0);
    expect(lingered).toBeGreaterThanOrEqual(LINGER_MS - 1_000);
    expect(lingered).toBeLessThan(LINGER_MS + 5_000);
  },
  { timeoutMs: 90_000 },
);

verifies(
  ['daemon.down', 'run.summary'],
  '`belay down` ends runs that are open, and each launcher hears what its run came to',
  async () => {
    await using place = await openPlace();
    for (let round = 0; round < 3; round += 1) {
      const started = Array.from({ length: 3 }, () => place.start([], ['sleep', '300']));
      await eventually('open runs', async () => {
        const { runs } = await place.status();
        return runs.filter(({ state }) => state === 'open').length === 3 || undefined;
      });
      expect((await place.session.belay(['down'])).status).toBe(0);
      for (const { ended, stderr } of started) {
        expect((await ended).status).toBe(5);
        expect(stderr()).toContain('was killed: the daemon ends');
        expect(stderr()).toContain('"durationMs"');
      }
    }
    const entries = await place.entries();
    const opened = entries.filter(({ type }) => type === 'run.open').map(({ run }) => run);
    const closed = entries.filter(({ type }) => type === 'run.close').map(({ run }) => run);
    expect(opened).toHaveLength(9);
    expect(closed.toSorted()).toEqual(opened.toSorted());
  },
  { timeoutMs: 90_000 },
);
