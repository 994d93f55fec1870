// The daemon: one per home. It owns gateway, monitor, ledger, budgets and vaults, and wires them
// here, once. Start: lock, configuration, ledger with its recovery, budgets folded from it, guard
// acknowledged, control socket. End: runs told, guard told, ledger closed.

import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAdaptorServer } from '@hono/node-server';
import { defaultConfig, parseConfig } from '../config/parse.ts';
import { selectGrant } from '../config/select.ts';
import { BelayError, reasonOf } from '../core/errors.ts';
import type { Clock, Random, RunId } from '../core/ids.ts';
import { createGateway } from '../gateway/gateway.ts';
import type { ProxyListener } from '../gateway/listen/proxy-listener.ts';
import { writeTrust } from '../gateway/listen/trust.ts';
import { createProxyTokens } from '../identity/proxy-tokens.ts';
import { createRuns } from '../identity/runs.ts';
import { openLedger } from '../ledger/open.ts';
import { createDenials } from '../monitor/denials.ts';
import { createMonitor, type MonitorParts } from '../monitor/perform.ts';
import { type Engine, loadEngine } from '../policy/engine.ts';
import { policyForRun } from '../policy/for-run.ts';
import { createStops, sameScope } from '../stop/stops.ts';
import { createUpstream } from '../upstream/upstream.ts';
import { createApi, type DaemonOperations } from './api.ts';
import { loadAuthority } from './authority.ts';
import { loadSigner } from './certificate.ts';
import { type DaemonRun, rowOf } from './daemon-run.ts';
import { dailyBudget } from './daily-budget.ts';
import { createEntryFeed } from './entry-feed.ts';
import { watchGuard } from './guard-watch.ts';
import type { Home } from './home.ts';
import { watchIdle } from './idle.ts';
import { takeLock } from './lock.ts';
import { createLogins } from './logins.ts';
import { loadPlaceholders } from './placeholders.ts';
import { prepareRun } from './prepare-run.ts';
import { type OpenedRun, PROTOCOL_VERSION } from './protocol.ts';
import { judgeOfRenewal, paused } from './renewal.ts';
import { loadRoots } from './roots.ts';
import { createRunDesk } from './run-desk.ts';

export interface DaemonOptions {
  readonly home: Home;
  readonly version: string;
  /** Leave this long after the last run; absent: stay. */
  readonly lingerMs?: number;
  /** Of the explicit proxy, which then listens from the start. */
  readonly proxyPort?: number;
  readonly clock: Clock;
  readonly random: Random;
  /** This home is ours: now a guard may be started for it, and only now. */
  readonly onLocked: () => void;
  readonly onReady: () => void;
  /** The guard is gone: the spawner starts another. */
  readonly onGuardLost: () => void;
  readonly signal: AbortSignal;
}

/** New calls of a run that was refused too often wait so long. */
const STORM_PAUSE_MS = 30_000;

/** How long the end waits for runs that are being closed, and for those who are told of it. */
const LEAVE_MS = 5_000;
const ANSWER_MS = 1_000;

/** Runs until it is told to end, or until it has been idle for `lingerMs`. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { home, clock, random } = options;
  const startedAt = clock();
  using _lock = takeLock(home.lock);
  options.onLocked();
  const homeFile = join(home.root, 'belay.jsonc');
  const homeText = readOptional(homeFile);
  const homeConfig = homeText === undefined ? defaultConfig() : parseConfig(homeText, homeFile);
  const { ledger, recovery } = await openLedger({ dir: home.ledger, clock, random });
  await using _ledger = ledger;
  const authority = loadAuthority(home, clock);
  const signer = loadSigner(home);
  const placeholders = loadPlaceholders(home);
  const engine = await loadEngine();
  warmUp(engine);
  const shared = await dailyBudget(homeConfig.caps, ledger, clock);

  const runs = createRuns<DaemonRun>(clock);
  const stops = createStops();
  const feed = createEntryFeed(ledger);
  await using upstream = createUpstream();
  const roots = loadRoots({
    home,
    ledger,
    clock,
    onChange(pems) {
      upstream.trust(pems);
      writeTrust({ dir: home.trust, authority, roots: pems });
    },
  });
  const denials = createDenials({
    runs,
    ledger,
    onExhausted: (run, reason) => void desk.kill({ run }, reason, 'denials'),
    onStorm: (run, reason) => desk.pause(run, reason, 'storm', STORM_PAUSE_MS),
    clock,
  });
  const road: MonitorParts = {
    runs,
    stops,
    ledger,
    denials,
    clock,
    observe: feed.stir,
    carry: {
      live: (call, run, stopped) => {
        const { grant, declared, plain } = run as DaemonRun;
        const { target } = call;
        const overPlain = target.scheme === 'https' && plain.has(target.host);
        return upstream.send({
          kind: call.kind,
          env: grant.environment,
          target: overPlain ? { ...target, scheme: 'http' } : target,
          method: call.method,
          pathAndQuery: call.query === '' ? call.path : `${call.path}?${call.query}`,
          headers: call.headers,
          body: call.body,
          signal: call.signal,
          stopped,
          declared,
        });
      },
    },
  };
  const monitor = createMonitor(road);
  // INVARIANT: I1, I2: a renewal takes the same ten steps; only who permits it is another.
  const renewals = createMonitor({
    ...road,
    runs: {
      ...runs,
      identify(id) {
        const run = runs.identify(id);
        const joined = logins.of(id);
        if ('step' in run || joined === undefined) return run;
        const { login, vault } = joined;
        return paused(stops.check(run.scopes)) ?? { ...run, judge: judgeOfRenewal(login), vault };
      },
    },
  });
  const logins = createLogins({ raise: renewals.perform, clock, random });
  const noteDenial = (denial: { run: RunId; host: string; port: number; reason: string }): void => {
    // A failed append closes the ledger, and every call after it is denied.
    void denials.record({ type: 'net.denial', ...denial }).then(feed.stir, () => {});
  };
  await using gateway = createGateway({
    perform: (call) => logins.perform(call, monitor.perform),
    authority,
    clock,
    random,
    onNetDenial: noteDenial,
    onDns: (query) => {
      void ledger.append({ type: 'net.name', ...query }).then(feed.stir, () => {});
    },
  });
  const tokens = createProxyTokens(random, clock);
  const openProxy = (port: number): Promise<ProxyListener> =>
    gateway.listenProxy({ host: '127.0.0.1', port, authenticate: tokens.check });
  let proxy: Promise<ProxyListener> | undefined;
  if (options.proxyPort !== undefined) proxy = Promise.resolve(await openProxy(options.proxyPort));
  const proxyFor = async ({ id }: DaemonRun): Promise<NonNullable<OpenedRun['proxy']>> => {
    // There is none until the first agent outside a sandbox.
    proxy ??= openProxy(0);
    const { host, port } = await proxy;
    return { host, port, token: tokens.issue(id, `${host}:${port}`) };
  };
  stops.register({
    name: 'gateway',
    pull(scope, state) {
      if (state !== 'killed') return;
      for (const run of runs.list()) {
        if (run.scopes.some((one) => sameScope(one, scope))) gateway.cutRun(run.id);
      }
    },
  });

  const ended = Promise.withResolvers<string>();
  using idle = watchIdle({
    openRuns: () => runs.list().length,
    ...(options.lingerMs === undefined ? {} : { lingerMs: options.lingerMs }),
    // A login that is nowhere else.
    holds: logins.holds,
    leave: () => ended.resolve('idle'),
  });

  await ledger.append({
    type: 'daemon.start',
    detail: {
      version: options.version,
      pid: process.pid,
      config: createHash('sha256')
        .update(homeText ?? '')
        .digest('hex'),
      ...recovery,
    },
  });
  await using guard = await watchGuard({
    socket: home.guardSocket,
    stops,
    ledger,
    runs: () => runs.list(),
    onLost: options.onGuardLost,
  });

  const desk = createRunDesk({
    home,
    runs,
    gateway,
    ledger,
    guard,
    stops,
    tokens,
    signer,
    logins,
    proxyFor,
    prepare: (request, id, notify) =>
      prepareRun({
        id,
        request,
        notify,
        home,
        shared,
        engine,
        now: clock(),
        placeholders,
        runOf: runs.get,
        logins,
      }),
    clock,
    random,
    onBusy: idle.busy,
    onIdle: idle.settle,
    onEntry: feed.stir,
  });
  const operations: DaemonOperations = {
    status: () => ({
      v: PROTOCOL_VERSION,
      pid: process.pid,
      version: options.version,
      startedAt,
      ledger: { entries: ledger.size(), state: ledger.health().kind },
      guard: guard.state(),
      runs: runs.list().map(rowOf),
    }),

    ...desk,

    roots,

    entries: feed.read,

    shutDown: (reason) => ended.resolve(reason),
  };

  const server = createAdaptorServer({ fetch: createApi(operations).fetch });
  rmSync(home.controlSocket, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(home.controlSocket, resolve);
  });
  chmodSync(home.controlSocket, 0o600);
  options.signal.addEventListener('abort', () => ended.resolve('signal'), { once: true });
  idle.settle();
  options.onReady();

  const reason = await ended.promise;
  desk.shut();
  for (const run of runs.list()) {
    stops.set({ kind: 'run', name: run.id }, 'daemon', 'killed', 'the daemon ends');
    run.notify({ kind: 'stopped', state: 'killed', reason: 'the daemon ends' });
  }
  const deadline = performance.now() + 3000;
  while (runs.list().length > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // A launcher may close its own meanwhile; then there is none of that name here any more.
  for (const run of runs.list()) desk.close(run.id, { reason: 'the daemon ended' }).catch(() => {});
  // Launchers wait for what their runs came to, and leave when they have heard it.
  await atMost(LEAVE_MS, desk.settled());
  await atMost(ANSWER_MS, new Promise<void>((resolve) => void server.close(() => resolve())));
  if ('closeAllConnections' in server) server.closeAllConnections();
  rmSync(home.controlSocket, { force: true });
  await ledger.append({ type: 'daemon.stop', detail: { reason } }).catch(() => {});
}

/** The first policy of a process costs a tenth of a second, which the guard would take for silence
 * on a busy host: paid before the first beat. */
function warmUp(engine: Engine): void {
  const config = defaultConfig();
  policyForRun(engine, config, selectGrant(config), ['npm-read'])[Symbol.dispose]();
}

async function atMost(ms: number, done: Promise<void>): Promise<void> {
  const over = new AbortController();
  const patience = sleep(ms, undefined, { signal: over.signal }).catch(() => {});
  await Promise.race([done, patience]);
  over.abort();
}

function readOptional(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new BelayError('ERR_CONFIG', `cannot read \`${path}\`: ${reasonOf(error)}`);
  }
}
