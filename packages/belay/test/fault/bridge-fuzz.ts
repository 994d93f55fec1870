// An agent attacks its bridge from inside a sandbox (inside/bridge-fuzz.mjs): datagrams of random
// and mutated bytes and of every size, floods of new names, connections that stay half open, are
// reset, say nonsense, or come by the thousand. After every batch the same bridge still lives and an
// ordinary call and question work; the daemon is the same one at the end; new names come at their
// rate; the ledger has at most one entry for what was attempted once.
//
//   node bridge-fuzz.ts [ROUNDS] [SEED]

import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bridgeOf } from '../system/beats.ts';
import { eventually, NODE, openPlace, type Place } from '../system/place.ts';
import { startUpstream } from '../system/upstreams.ts';

export const covers = ['packages/belay/src/sandbox', 'packages/belay/src/gateway'];
const FULL_ROUNDS = 50;
const BATCHES_PER_ROUND = 9;
const MOST_MS_PER_ROUND = 60_000;
/** As the bridge has them. */
const MOST_CONNECTIONS = 1024;
const NEW_NAMES_BURST = 500;
const NEW_NAMES_PER_SECOND = 50;
const MOST_BRIDGE_BYTES = 400 << 20;
const MOST_ENTRY_BYTES = 2_000;

export interface FuzzFigures {
  readonly rounds: number;
  readonly datagrams: number;
  readonly connections: number;
  readonly names: number;
  readonly seconds: number;
  readonly entries: number;
  readonly bridgeMostBytes: number;
}

interface Batch {
  readonly kind: string;
  readonly sent: number;
  readonly codes?: Readonly<Record<string, number>>;
  readonly opened?: number;
  readonly held?: number;
  readonly after: { readonly call: unknown; readonly question: boolean };
}

/** Throws when a promise does not hold. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<FuzzFigures> {
  return await fuzzRounds(Math.max(1, Math.round(FULL_ROUNDS * size.scale)), size.seed);
}

export async function fuzzRounds(rounds: number, seed: number): Promise<FuzzFigures> {
  await using upstream = await startUpstream(['api.example']);
  await using place = await openPlace({
    allow: ['api.example'],
    upstreams: { 'api.example': upstream },
  });
  const script = join(place.workdir, 'bridge-fuzz.mjs');
  copyFileSync(join(import.meta.dirname, '../system/inside/bridge-fuzz.mjs'), script);
  const startMs = performance.now();
  const started = place.start([], [NODE, script, String(seed), String(rounds), 'api.example']);
  const run = await place.openRun();
  const { pid: daemon } = await place.status();
  const bridge = await eventually('the bridge', () => bridgeOf(place, run));
  const bridgeMostBytes = await watch(bridge, started.ended, rounds * MOST_MS_PER_ROUND);
  const { status } = await started.ended;
  const seconds = (performance.now() - startMs) / 1000;
  if (status !== 0) throw new Error(`seed ${seed}: status ${status}: ${started.stderr()}`);
  const batches = started.stdout().trim().split('\n');
  const told = batches.map((line) => JSON.parse(line) as Batch);
  for (const problem of problemsOf(told, rounds)) throw new Error(`seed ${seed}: ${problem}`);
  if ((await place.status()).pid !== daemon) throw new Error(`seed ${seed}: another daemon`);

  const figures = {
    rounds,
    datagrams: sum(told.filter(({ codes }) => codes !== undefined)),
    connections: sum(told.filter(({ held }) => held !== undefined)),
    seconds: Math.round(seconds),
    bridgeMostBytes,
    ...(await entriesOf(place, run, told, seconds)),
  };
  if (bridgeMostBytes > MOST_BRIDGE_BYTES) throw new Error(`seed ${seed}: the bridge grew`);
  return figures;
}

const sum = (batches: readonly Batch[]): number => batches.reduce((all, { sent }) => all + sent, 0);

/** Until the run ends: the most memory that the bridge had. Throws when it is another or none. */
async function watch(bridge: number, ended: Promise<unknown>, withinMs: number): Promise<number> {
  const deadlineMs = performance.now() + withinMs;
  let over = false;
  void ended.then(() => {
    over = true;
  });
  let most = 0;
  while (!over) {
    if (performance.now() > deadlineMs) throw new Error(`no end within ${withinMs} ms`);
    try {
      const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${bridge}/status`, 'utf8'))?.[1];
      most = Math.max(most, Number(kib ?? 0) * 1024);
    } catch (error) {
      // It goes with its run, and only then.
      await Promise.race([ended, sleep(2_000)]);
      if (!over) throw new Error('the bridge died and its run did not', { cause: error });
    }
    await sleep(50);
  }
  return most;
}

function problemsOf(batches: readonly Batch[], rounds: number): readonly string[] {
  const problems = batches.flatMap(({ kind, after, held = 0 }) => [
    ...(after.call === 200 ? [] : [`after ${kind} an ordinary call is ${after.call}`]),
    ...(after.question ? [] : [`after ${kind} an ordinary question has no answer`]),
    ...(held <= MOST_CONNECTIONS ? [] : [`${held} connections at once`]),
  ]);
  const crowds = batches.filter(({ kind }) => kind === 'many at once');
  if (crowds.some(({ held = 0 }) => held < MOST_CONNECTIONS / 2)) {
    problems.push(`the crowd was none: ${JSON.stringify(crowds)}`);
  }
  const floods = batches.filter(({ kind }) => kind === 'new names');
  if (!floods.some(({ codes }) => (codes?.[2] ?? 0) > 0)) {
    problems.push(`no flood met its limit: ${JSON.stringify(floods)}`);
  }
  const expected = rounds * BATCHES_PER_ROUND;
  if (batches.length !== expected) problems.push(`${batches.length} batches of ${expected}`);
  return problems;
}

async function entriesOf(
  place: Place,
  run: string,
  batches: readonly Batch[],
  seconds: number,
): Promise<{ readonly names: number; readonly entries: number }> {
  const entries = await place.entries(run);
  const count = (type: string): number => entries.filter((entry) => entry.type === type).length;
  const names = count('net.name');
  const mostNames = NEW_NAMES_BURST + NEW_NAMES_PER_SECOND * Math.ceil(seconds) + 10;
  if (names > mostNames) throw new Error(`${names} new names, of at most ${mostNames}`);
  const connections = sum(batches.filter(({ held }) => held !== undefined));
  // A connection is refused once; an ordinary call has its intent and its outcome.
  const refusals = count('net.denial') + count('denial');
  if (refusals > connections) {
    throw new Error(`${refusals} refusals of ${connections} connections`);
  }
  const most = names + connections + 2 * 40 * batches.length + 20;
  if (entries.length > most) throw new Error(`${entries.length} entries, of at most ${most}`);
  const longest = Math.max(...entries.map((entry) => JSON.stringify(entry).length));
  if (longest > MOST_ENTRY_BYTES) throw new Error(`an entry of ${longest} bytes`);
  return { names, entries: entries.length };
}

if (import.meta.main) {
  const [rounds = '2', seed = String(Date.now() % 1e6)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await fuzzRounds(Number(rounds), Number(seed)))}\n`);
}
