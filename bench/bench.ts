// `npm run bench`: how fast the gateway is, as ratios against peers in the same run. Belay runs with
// everything on, as it is installed (belay.ts); nginx re-encrypts without policy or log; squid, mitmproxy
// and mockttp intercept. Each has one core to itself in turn, its helpers and writers included; load
// generator and upstream share the other. The figures are worth nothing with an error in them, so
// one error ends the bench. `npm run prove -- bench` writes them to docs/evidence.
//
//   node bench/bench.ts [--scale 0.1] [--seed 1] [--json]

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from '../packages/belay/test/packed.ts';
import { type Belay, type BelayRecord, startBelay } from './belay.ts';
import { probeDisk } from './disk.ts';
import { median, mib, numbers, quantile, round } from './figures.ts';
import { groundFor } from './ground.ts';
import { loadClient } from './load-client.ts';
import { startMitmproxy } from './mitmproxy.ts';
import { startMockttp } from './mockttp.ts';
import { startNginx } from './nginx.ts';
import { type IdleFigures, measureIdle, measureOthers, type OtherFigures } from './others.ts';
import { installPeers, programPath } from './packages.ts';
import type { Missing, Peer } from './peer.ts';
import { end, LOAD_CORE, peakRssBytes, startOn } from './processes.ts';
import { type Subject, subjectsOf, type Target, tableOf, targetsOf } from './report.ts';
import { measureRounds } from './rounds.ts';
import { startSquid } from './squid.ts';
import { measureStarts } from './starts.ts';
import { LOCAL_HOST, type Origin, startOrigin } from './upstream.ts';

export const covers = ['packages/belay/src', 'bench'];

export interface BenchFigures {
  readonly scale: number;
  readonly rounds: number;
  readonly measureMs: number;
  /** One minute's load of the machine before and after. */
  readonly loadAverage: readonly [number, number];
  readonly fdatasyncMs: { readonly p50: number; readonly p99: number };
  readonly versions: Readonly<Record<string, string>>;
  readonly missing: readonly Missing[];
  readonly subjects: readonly Subject[];
  readonly peakRssMiB: Readonly<Record<string, number>>;
  readonly record: { readonly calls: number; readonly entries: number };
  readonly start: { readonly coldMs: number; readonly warmMs: number; readonly warmMostMs: number };
  readonly idleRssMiB: { readonly daemon: number; readonly withGuardAndSpawner: number };
  readonly runRssMiB: number;
  readonly others: OtherFigures;
  readonly idle: IdleFigures;
  readonly targets: readonly Target[];
}

const FULL = {
  rounds: 5,
  warmMs: 700,
  measureMs: 2_000,
  warmRoundMs: 5_000,
  cold: 5,
  warm: 15,
  probes: 100,
  idleConnections: 2_000,
};
const LEAST = {
  rounds: 1,
  warmMs: 400,
  measureMs: 400,
  warmRoundMs: 1_200,
  cold: 1,
  warm: 2,
  probes: 25,
  idleConnections: 200,
};

type Say = (line: string) => void;
const aloud: Say = (line) => void process.stderr.write(`bench: ${line}\n`);

export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<BenchFigures> {
  return await bench(size.scale, size.seed, aloud);
}

async function bench(scale: number, seed: number, say: Say): Promise<BenchFigures> {
  requireHost();
  build();
  installPeers(say);
  const at = (of: keyof typeof FULL): number => Math.round(Math.max(LEAST[of], FULL[of] * scale));
  // Rounds and their length shrink together, or a tenth would be a tenth of a tenth.
  const part = (of: 'rounds' | 'measureMs' | 'warmMs'): number =>
    Math.round(Math.max(LEAST[of], FULL[of] * Math.sqrt(scale)));
  const loadBefore = loadavg()[0] ?? 0;

  say('cold and warm starts');
  const starts = await measureStarts(at('cold'), at('warm'));

  await using stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'belay-bench-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const origin = stack.use(await startOrigin(`Bearer ${crypto.randomUUID()}`));
  const { peers, missing } = await startPeers(folder, origin, stack, say);
  const belay = stack.use(await startBelay(origin));
  const outside = startOn(LOAD_CORE, [process.execPath, join(import.meta.dirname, 'load.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  stack.defer(() => end(outside));

  const rounds = part('rounds');
  const measureMs = part('measureMs');
  const disk: number[] = [];
  const alike = {
    peers: [direct(origin), ...peers, ...belay.peers],
    origin,
    outside: { client: loadClient(outside), pid: outside.pid as number },
    rounds,
    warmMs: part('warmMs'),
    measureMs,
  };
  say('idle connections');
  const { sent: sentFirst, ...idle } = await measureIdle(alike, at('idleConnections'));
  const { rows, sent } = await measureRounds({
    ...alike,
    warmRoundMs: at('warmRoundMs'),
    random: numbers(seed),
    onRound(number) {
      say(number === 0 ? 'a round to warm up' : `round ${number} of ${rounds}`);
      disk.push(...probeDisk(belay.home, at('probes')));
    },
  });

  const rss = Object.fromEntries(
    [...peers, ...belay.peers.slice(0, 1)].map((peer) => [
      peer.name,
      mib(peakRssBytes(peer.pids())),
    ]),
  );
  say('downloads and handshakes');
  const others = await measureOthers(alike);
  say('checking the record');
  const record = await finish(belay, (name) => sent(name) + others.sent(name), sentFirst);
  const subjects = subjectsOf(rows);
  const sorted = disk.toSorted((a, b) => a - b);
  const fdatasyncMs = { p50: round(median(disk)), p99: round(quantile(sorted, 0.99)) };
  return {
    scale,
    rounds,
    measureMs,
    loadAverage: [round(loadBefore), round(loadavg()[0] ?? 0)],
    fdatasyncMs,
    versions: Object.fromEntries(
      [...peers, ...belay.peers.slice(0, 1)].map(({ name, version }) => [name, version]),
    ),
    missing,
    subjects,
    peakRssMiB: { ...rss, 'belay daemon alone': mib(record.peakDaemonRssBytes) },
    record: { calls: record.calls, entries: record.entries },
    start: {
      coldMs: Math.round(starts.coldMs),
      warmMs: Math.round(starts.warmMs),
      warmMostMs: Math.round(starts.warmMostMs),
    },
    idleRssMiB: {
      daemon: mib(starts.idleDaemonRssBytes),
      withGuardAndSpawner: mib(starts.idleAllRssBytes),
    },
    runRssMiB: mib(record.peakRunRssBytes),
    others: others.figures,
    idle,
    targets: targetsOf(subjects, {
      fdatasyncP50Ms: fdatasyncMs.p50,
      warmStartMs: starts.warmMs,
      idleDaemonRssBytes: starts.idleDaemonRssBytes,
      others: others.figures,
      idle,
    }),
  };
}

/** Every request of every load generator is a call that the run knows. */
function finish(
  belay: Belay,
  sent: (name: string) => number,
  before: number,
): Promise<BelayRecord> {
  const counted = belay.peers.reduce((sum, { name }) => sum + sent(name), before);
  return belay.finish(counted);
}

async function startPeers(
  folder: string,
  origin: Origin,
  stack: AsyncDisposableStack,
  say: Say,
): Promise<{ readonly peers: readonly Peer[]; readonly missing: readonly Missing[] }> {
  const peers: Peer[] = [];
  const missing: Missing[] = [];
  for (const start of [startNginx, startSquid, startMitmproxy, startMockttp]) {
    const found = await start(await groundFor(folder, origin), say);
    if ('reason' in found) {
      missing.push(found);
      say(`${found.name} is missing: ${found.reason}`);
    } else {
      peers.push(stack.use(found));
    }
  }
  return { peers, missing };
}

/** The same client at the upstream itself. */
function direct({ port, caPem, issuer, authorization }: Origin): Peer {
  const way = { host: LOCAL_HOST, port, ca: caPem, opening: 'none' } as const;
  return {
    name: 'direct',
    version: '',
    way: { ...way, dial: { host: '127.0.0.1', port } },
    authorization,
    issuer,
    pids: () => [],
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function requireHost(): void {
  if (programPath('taskset') === undefined) throw new Error('no taskset on this host (util-linux)');
  if (availableParallelism() < 2) throw new Error('a bench needs two cores');
}

/** The figures are about the sources that are here now. */
function build(): void {
  if (process.env.BELAY_INSTALLED !== undefined) return;
  const { status } = spawnSync('npm', ['run', '--silent', 'build'], {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: 300_000,
  });
  if (status !== 0) throw new Error('`npm run build` failed');
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      scale: { type: 'string', default: '1' },
      seed: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
    },
  });
  const scale = Number(values.scale);
  const seed = Number(values.seed);
  if (!(scale > 0 && scale <= 1) || !Number.isInteger(seed)) {
    throw new Error('--scale is above 0 and at most 1, --seed a whole number');
  }
  const figures = await bench(scale, seed, aloud);
  process.stdout.write(values.json ? `${JSON.stringify(figures, null, 2)}\n` : textOf(figures));
  if (figures.targets.some(({ met }) => met === false)) process.exitCode = 1;
}

function textOf(figures: BenchFigures): string {
  const { subjects, peakRssMiB, targets, missing, fdatasyncMs, start, idleRssMiB, record } =
    figures;
  const [before, after] = figures.loadAverage;
  return [
    tableOf(subjects, peakRssMiB, targets, missing),
    `fdatasync: p50 ${fdatasyncMs.p50} ms, p99 ${fdatasyncMs.p99} ms`,
    `belay run -- true: cold ${start.coldMs} ms, warm ${start.warmMs} ms, at most ${start.warmMostMs} ms`,
    `idle: daemon ${idleRssMiB.daemon} MiB, with guard and spawner ${idleRssMiB.withGuardAndSpawner} MiB; ` +
      `a run's launcher and bridge ${figures.runRssMiB} MiB`,
    ...othersText(figures),
    `ledger: ${record.entries} entries for ${record.calls} calls, verified`,
    `load average: ${before} before, ${after} after; ${figures.rounds} rounds of ${figures.measureMs} ms`,
    '',
  ].join('\n');
}

function othersText({ others, idle }: BenchFigures): readonly string[] {
  const { downloads, handshakes } = others;
  const inOrder = <T>(of: Readonly<Record<string, T>>, text: (found: T) => string): string =>
    Object.entries(of)
      .map(([name, found]) => `${name} ${text(found)}`)
      .join(', ');
  return [
    `downloads, MiB/s: ${inOrder(downloads, ({ mibPerSecond }) => `${mibPerSecond}`)}`,
    `handshakes of TLS with one call each, per second: ${inOrder(
      handshakes,
      ({ perSecond, cpuUs }) => `${perSecond}${cpuUs > 0 ? ` (${cpuUs} us CPU)` : ''}`,
    )}`,
    `${idle.connections} idle connections: ${idle.mibOverIdle} MiB over idle`,
  ];
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    const { message, cause } = error as Error;
    process.stderr.write(
      `bench: error: ${message}${cause instanceof Error ? `: ${cause.message}` : ''}\n`,
    );
    process.exitCode = 1;
  }
}
