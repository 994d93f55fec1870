// Kills the daemon while an agent calls through it, over and over: of four rounds one at a random
// moment, one as soon as an intent is written (its sync is under way), one a little later (it is
// about to be sent), one when the call arrives at the upstream. After each restart the upstream's
// journal and the agent's own record are held against the ledger: no effect without an intent, no
// acknowledged entry lost, no intent without its end.
//
//   node daemon-crash.ts [ROUNDS] [SEED]

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Entry } from '../../src/core/entry.ts';
import { entriesOnDisk, watchFrames } from '../system/ledger-files.ts';
import { eventually, isAlive, lines, NODE, openPlace, type Place } from '../system/place.ts';
import { startUpstream, type Upstream } from '../system/upstreams.ts';

export const covers = ['packages/belay/src'];
const FULL_ROUNDS = 200;
const MOMENTS = ['random', 'written', 'synced', 'arrived'] as const;
const AT_ONCE = 8;
const WARM_CALLS = 10;

export interface CrashFigures {
  readonly rounds: number;
  readonly arrivals: number;
  /** Arrivals at the upstream without an intent in the ledger: none, or I2 is broken. */
  readonly effectsWithoutIntent: number;
  /** Answers that the agent got, for a call or a denial, whose entry is not in the ledger. */
  readonly lostAcknowledged: number;
  /** Intents with no end, or with two. */
  readonly unsettled: number;
  readonly unknown: number;
  readonly denials: number;
}

/** Throws when a promise does not hold. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<CrashFigures> {
  return await crashRounds(Math.max(4, Math.round(FULL_ROUNDS * size.scale)), size.seed);
}

export async function crashRounds(rounds: number, seed: number): Promise<CrashFigures> {
  const random = numbers(seed);
  await using upstream = await startUpstream(['api.example']);
  await using place = await openPlace({ upstreams: { 'api.example': upstream } });
  copyFileSync(
    join(import.meta.dirname, '../system/inside/calls.mjs'),
    join(place.workdir, 'calls.mjs'),
  );
  const told: { readonly path: string; readonly what: string }[] = [];
  for (let round = 0; round < rounds; round++) {
    const record = join(place.workdir, `record-${round}.txt`);
    await crash(place, upstream, round, record, random);
    for (const line of lines(record)) {
      const [number, what = ''] = line.split(' ');
      told.push({ path: `/r${round}/${number}`, what });
    }
  }
  // The last crash is recovered like the others: by the next start.
  const last = await place.run([], ['true']);
  if (last.status !== 0)
    throw new Error(`no run after the last crash: status ${last.status}: ${last.stderr}`);
  const verified = await place.session.belay(['log', 'verify']);
  if (verified.status !== 0) throw new Error(`the ledger does not verify: ${verified.stdout}`);
  const arrivals = upstream.arrivals.map(({ url }) => url);
  const figures = { rounds, ...compare(entriesOnDisk(place.session.home), arrivals, told) };
  const { effectsWithoutIntent, lostAcknowledged, unsettled } = figures;
  if (effectsWithoutIntent + lostAcknowledged + unsettled > 0 || figures.arrivals === 0) {
    throw new Error(`seed ${seed}: ${JSON.stringify(figures)}`);
  }
  return figures;
}

/** One run that calls until its daemon is killed, and its end. */
async function crash(
  place: Place,
  upstream: Upstream,
  round: number,
  record: string,
  random: () => number,
): Promise<void> {
  const moment = MOMENTS[round % MOMENTS.length] as (typeof MOMENTS)[number];
  const command = [NODE, 'calls.mjs', record, `/r${round}`, 'api.example', 'denied.example'];
  const started = place.start(['--allow', 'api.example'], [...command, String(AT_ONCE)]);
  const goal = upstream.arrivals.length + WARM_CALLS;
  await eventually(`call in round ${round}: ${started.stderr()}`, () => {
    return upstream.arrivals.length >= goal || undefined;
  });
  const { pid } = await place.status();
  await sleep(random() * 100);
  switch (moment) {
    case 'random':
      await sleep(random() * 200);
      break;
    case 'written':
      await watchFrames(place.session.home);
      break;
    case 'synced':
      await watchFrames(place.session.home);
      for (const untilMs = performance.now() + random() * 2; performance.now() < untilMs; );
      break;
    case 'arrived':
      await nextArrival(upstream);
      break;
  }
  process.kill(pid, 'SIGKILL');
  await eventually('end of the daemon', () => !isAlive(pid) || undefined);
  await eventually('word from the launcher', () => {
    return started.stderr().includes('the daemon died') || undefined;
  });
  started.child.kill('SIGINT');
  const { status } = await started.ended;
  if (status !== 5) throw new Error(`round ${round}: status ${status}: ${started.stderr()}`);
}

function nextArrival(upstream: Upstream): Promise<void> {
  const usual = upstream.answer;
  return new Promise((resolve) => {
    upstream.answer = (request, reply, arrival) => {
      upstream.answer = usual;
      resolve();
      usual(request, reply, arrival);
    };
  });
}

function compare(
  entries: readonly Entry[],
  arrivals: readonly string[],
  told: readonly { readonly path: string; readonly what: string }[],
): Omit<CrashFigures, 'rounds'> {
  const intents = new Map<string, string>();
  const denied = new Set<string>();
  const ends = new Map<string, number>();
  let unknown = 0;
  for (const entry of entries) {
    if (entry.type === 'intent') intents.set(entry.path, entry.call);
    if (entry.type === 'denial') denied.add(entry.path);
    if (entry.type === 'outcome.unknown') unknown += 1;
    if (entry.type === 'outcome' || entry.type === 'outcome.unknown') {
      ends.set(entry.call, (ends.get(entry.call) ?? 0) + 1);
    }
  }
  const lost = told.filter(({ path, what }) => {
    if (what === '200') return !intents.has(path);
    return /^\d+$/.test(what) && !denied.has(path);
  });
  return {
    arrivals: arrivals.length,
    effectsWithoutIntent: arrivals.filter((path) => !intents.has(path)).length,
    lostAcknowledged: lost.length,
    unsettled: [...intents.values()].filter((call) => ends.get(call) !== 1).length,
    unknown,
    denials: denied.size,
  };
}

/** Numbers in [0, 1) that a seed repeats (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

if (import.meta.main) {
  const [rounds = '10', seed = String(Date.now() % 1e6)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await crashRounds(Number(rounds), Number(seed)))}\n`);
}
