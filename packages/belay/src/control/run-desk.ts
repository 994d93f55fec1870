// Where runs are opened, vouched for, closed and killed: what the control API may ask of the daemon
// about runs, each in the order that the invariants need.

import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { BelayError, reasonOf } from '../core/errors.ts';
import { excerpt } from '../core/excerpt.ts';
import { type Clock, newRunId, type Random, type RunId } from '../core/ids.ts';
import type { Gateway } from '../gateway/gateway.ts';
import type { ProxyTokens } from '../identity/proxy-tokens.ts';
import type { Runs } from '../identity/runs.ts';
import { lineageOf } from '../identity/sub-run.ts';
import type { Ledger } from '../ledger/ledger.ts';
import type { Stops } from '../stop/stops.ts';
import type { DaemonOperations } from './api.ts';
import { certificateOf, type Signer } from './certificate.ts';
import { type DaemonRun, summaryOf } from './daemon-run.ts';
import type { GuardWatch } from './guard-watch.ts';
import type { Home } from './home.ts';
import type { Logins } from './logins.ts';
import { MOST_REASON, type OpenedRun, type OpenRun, type RunNotice } from './protocol.ts';

/** Of the gateway, in the folder of a run. */
const SOCKET = 'gw.sock';
/** Of a timer; a longer wait takes several. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface RunDesk
  extends Pick<DaemonOperations, 'open' | 'guarded' | 'lostMasks' | 'login' | 'close' | 'kill'> {
  /** New calls of a run wait for a time. Takes hold in this turn. */
  pause(run: RunId, reason: string, cause: string, forMs: number): void;
  /** No run is opened from here on. */
  shut(): void;
  /** Resolves when every close that is under way has ended. */
  settled(): Promise<void>;
}

export interface RunDeskParts {
  readonly home: Home;
  readonly runs: Runs<DaemonRun>;
  readonly gateway: Gateway;
  readonly ledger: Ledger;
  readonly guard: GuardWatch;
  readonly stops: Stops;
  readonly tokens: ProxyTokens;
  readonly signer: Signer;
  readonly logins: Logins;
  /** The explicit proxy for a run outside a sandbox. */
  readonly proxyFor: (run: DaemonRun) => Promise<NonNullable<OpenedRun['proxy']>>;
  /** Throws for a request that cannot become a run. */
  readonly prepare: (request: OpenRun, id: RunId, notify: (notice: RunNotice) => void) => DaemonRun;
  readonly clock: Clock;
  readonly random: Random;
  /** A run is about to be open. */
  readonly onBusy: () => void;
  /** Perhaps none is open any more. */
  readonly onIdle: () => void;
  /** Something was appended. */
  readonly onEntry: () => void;
}

export function createRunDesk(parts: RunDeskParts): RunDesk {
  const { home, runs, gateway, ledger, guard, stops, tokens, signer, logins, proxyFor, prepare } =
    parts;
  const { clock, random, onBusy, onIdle, onEntry } = parts;
  const detachments = new Map<RunId, () => Promise<void>>();
  const closing = new Set<Promise<void>>();
  /** Runs whose `run.open` is written or about to be. */
  const recorded = new Set<RunId>();
  let isShut = false;

  const open = (id: RunId): DaemonRun => {
    const run = runs.get(id);
    if (run === undefined) throw new BelayError('ERR_NOT_FOUND', `no run \`${id}\` is open`);
    return run;
  };

  const expiries = new Map<RunId, NodeJS.Timeout>();
  /** From then on each call is denied; what is still open is cut. */
  const watchExpiry = ({ id, grant: { expiresAt }, notify }: DaemonRun): void => {
    if (expiresAt === undefined) return;
    const expire = (): void => {
      const leftMs = expiresAt - clock();
      if (leftMs > 0) {
        expiries.set(id, setTimeout(expire, Math.min(leftMs, LONGEST_TIMER_MS)).unref());
        return;
      }
      gateway.cutRun(id);
      notify({ kind: 'expired', reason: `the grant of ${id} expired` });
      const detail = { at: new Date(expiresAt).toISOString() };
      ledger.append({ type: 'grant.expired', run: id, detail }).then(onEntry, () => {});
    };
    expire();
  };
  /** While something was awaited, a run that is being opened may have been closed or killed. */
  const stillOpening = (run: DaemonRun): void => {
    const { state, reason } = stops.check(run.scopes);
    if (state === 'killed') throw new BelayError('ERR_STOPPED', `${run.id} was killed: ${reason}`);
    if (runs.get(run.id) !== run) {
      throw new BelayError('ERR_STOPPED', `${run.id} was closed before it was open`);
    }
  };
  const letGo = async (id: RunId): Promise<void> => {
    tokens.revoke(id);
    gateway.cutRun(id);
    const detach = detachments.get(id);
    detachments.delete(id);
    await detach?.();
  };
  const below = (above: DaemonRun): readonly DaemonRun[] =>
    runs.list().filter((run) => run !== above && lineageOf<DaemonRun>(run).includes(above));

  const desk: RunDesk = {
    async open(request, notify) {
      if (isShut) {
        throw new BelayError('ERR_DAEMON', 'the daemon ends, and opens no run', {
          hint: 'start the run again',
        });
      }
      onBusy();
      const id = newRunId(random);
      const runDir = join(home.run, id);
      let run: DaemonRun;
      try {
        run = prepare(request, id, notify);
      } catch (error) {
        onIdle();
        throw error;
      }
      const external = run.containment === 'external';
      runs.add(run);
      try {
        mkdirSync(runDir, { mode: 0o700 });
        const attachment = await gateway.attachRun({
          run: id,
          ...(external ? {} : { socketPath: join(runDir, SOCKET) }),
          tunnels: run.tunnels,
        });
        detachments.set(id, attachment.detach);
        stillOpening(run);
        recorded.add(id);
        await ledger.append({
          type: 'run.open',
          run: id,
          ...(run.parent === undefined ? {} : { parent: run.parent.id }),
          agent: run.grant.agent,
          env: run.grant.environment,
          mode: run.grant.mode,
          containment: run.containment,
          command: run.command,
          workdir: request.workdir,
          uid: request.uid,
          config: run.configDigest,
          grants: request.allow,
          ...(run.grant.expiresAt === undefined ? {} : { expiresAt: run.grant.expiresAt }),
          paths: request.paths,
          ports: request.ports,
          caps: run.caps,
          ...(run.opened.login === undefined ? {} : { login: request.login?.agent ?? '' }),
        });
        stillOpening(run);
        const proxy = external ? await proxyFor(run) : undefined;
        stillOpening(run);
        notify(proxy === undefined ? run.opened : { ...run.opened, proxy });
        watchExpiry(run);
        logins.opened(id);
      } catch (error) {
        await desk.close(id, { reason: excerpt(reasonOf(error), MOST_REASON) }).catch(() => {});
        // Closed by another meanwhile, it left what was made since.
        await letGo(id);
        removeFolder(runDir);
        throw error;
      }
      onEntry();
      return id;
    },

    async guarded(id, { probe, ...registration }) {
      const run = open(id);
      run.registration = registration;
      await guard.acknowledge(run);
      // Durable before the first call may pass.
      await ledger.append(certificateOf(id, probe, signer));
      run.guarded = true;
    },

    async lostMasks(id, { lost }) {
      const { id: run } = open(id);
      await Promise.all(lost.map((detail) => ledger.append({ type: 'mask.lost', run, detail })));
    },

    login(id, answer) {
      // Until its login is left, and not only while it is open: the answer is waited for at its end.
      if (!logins.has(id)) open(id);
      logins.answer(id, answer);
    },

    async close(id, { status, reason, changes }) {
      const run = open(id);
      const over = Promise.withResolvers<void>();
      closing.add(over.promise);
      using _over = {
        [Symbol.dispose]: () => {
          closing.delete(over.promise);
          over.resolve();
        },
      };
      runs.remove(id);
      clearTimeout(expiries.get(id));
      expiries.delete(id);
      // INVARIANT: nobody acts for a run that has ended; the stops hold in this turn.
      const orphans = runs
        .list()
        .filter(({ parent }) => parent === run)
        .map((child) => desk.kill({ run: child.id }, `its parent \`${id}\` ended`, 'parent'));
      await letGo(id);
      await logins.leave(id);
      run.release();
      removeFolder(join(home.run, id));
      onIdle();
      await Promise.all(orphans);
      const { calls, denials, bytes } = run.tally.counts();
      // What was never opened has no end on the record.
      const receipt = recorded.delete(id)
        ? await ledger.append({
            type: 'run.close',
            run: id,
            reason,
            ...(status === undefined ? {} : { status }),
            ...changes,
            calls,
            denials,
            bytes,
          })
        : undefined;
      onEntry();
      return summaryOf(run, changes, clock(), receipt?.index ?? ledger.size());
    },

    shut() {
      isShut = true;
    },

    async settled() {
      await Promise.all(closing);
    },

    pause(id, reason, cause, forMs) {
      const victim = open(id);
      if (victim.state === 'paused') return;
      const scope = { kind: 'run', name: id } as const;
      const note = (type: 'stop.set' | 'stop.lifted', why: string): void => {
        // A failed append closes the ledger, and every call after it is denied.
        const detail = { state: 'paused', reason: why };
        ledger.append({ type, run: id, detail }).then(onEntry, () => {});
      };
      stops.set(scope, cause, 'paused', reason);
      if (victim.state === 'open') victim.state = 'paused';
      victim.notify({ kind: 'paused', reason, forMs });
      note('stop.set', reason);
      const lift = (): void => {
        stops.lift(scope, cause);
        if (runs.get(id) !== victim) return;
        if (victim.state === 'paused') victim.state = 'open';
        note('stop.lifted', `after ${forMs / 1000} s`);
      };
      setTimeout(lift, forMs).unref();
    },

    async kill({ run, all }, reason, cause = 'operator') {
      const named = all === true ? runs.list() : run === undefined ? [] : [open(run)];
      const victims = [...new Set(named.flatMap((one) => [one, ...below(one)]))];
      // INVARIANT: I4: every stop holds before anything is waited for.
      for (const victim of victims) {
        stops.set({ kind: 'run', name: victim.id }, cause, 'killed', reason);
        victim.state = 'stopped';
        victim.notify({ kind: 'stopped', state: 'killed', reason });
        tokens.revoke(victim.id);
      }
      // INVARIANT: all are frozen before the disk is asked: no victim waits for the entry of another.
      const frozen = victims
        .filter(({ containment }) => containment === 'sandbox')
        .map(async (victim) => guard.kill(victim));
      const noted = victims.map((victim) =>
        ledger.append({ type: 'stop.set', run: victim.id, detail: { state: 'killed', reason } }),
      );
      // What fails is told by others: a guard that is lost, a ledger that takes no entry.
      await Promise.allSettled([...frozen, ...noted]);
      return victims.map(({ id }) => id);
    },
  };
  return desk;
}

/** Only what is ours: as long as a killed launcher's files are in it, the guard and the next run find
 * there what to clean up. */
function removeFolder(path: string): void {
  try {
    rmSync(join(path, SOCKET), { force: true });
    rmdirSync(path);
  } catch {
    // Not empty, or gone.
  }
}
