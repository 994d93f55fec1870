// A run as the daemon holds it: from its registration to its closing entry. Registration wires what
// the monitor needs (grant, judge, budgets, vault) out of the configuration that the launcher read.

import type { RunCaps } from '../budget/budgets.ts';
import type { Tunnel } from '../core/target.ts';
import type { MonitoredRun } from '../monitor/facts.ts';
import type { Declared } from '../upstream/upstream.ts';
import type {
  Changes,
  Containment,
  GuardedRun,
  OpenedRun,
  OpenRun,
  RunNotice,
  RunRow,
  RunSummary,
} from './protocol.ts';
import type { RunTally } from './tally.ts';

export interface DaemonRun extends MonitoredRun {
  readonly parent?: DaemonRun;
  readonly containment: Containment;
  guarded: boolean;
  /** What the guard was told, kept so that a new guard can be told again. */
  registration: GuardedRun | undefined;
  state: 'open' | 'paused' | 'stopped';
  readonly declared: Declared;
  /** Names whose declared upstream speaks plain HTTP. */
  readonly plain: ReadonlySet<string>;
  /** Connections that the grant lets pass as they are, by `host:port`. */
  readonly tunnels: ReadonlyMap<string, Tunnel>;
  readonly caps: RunCaps;
  readonly configDigest: string;
  /** Real path. */
  readonly workdir: string;
  /** Of the host, opened to the agent. */
  readonly paths: OpenRun['paths'];
  /** Which login of its user it uses. */
  readonly login?: Pick<NonNullable<OpenRun['login']>, 'agent' | 'file'>;
  readonly opened: OpenedRun;
  readonly command: readonly string[];
  readonly startedAt: number;
  readonly tally: RunTally;
  /** Tells the launcher; a launcher that is gone hears nothing. */
  readonly notify: (notice: RunNotice) => void;
  /** Forgets its secrets and decisions. */
  readonly release: () => void;
}

export function rowOf(run: DaemonRun): RunRow {
  const { calls, denials, bytes } = run.tally.counts();
  return {
    run: run.id,
    parent: run.parent?.id ?? null,
    agent: run.grant.agent,
    environment: run.grant.environment,
    mode: run.grant.mode,
    containment: run.containment,
    state: run.state === 'open' && !run.guarded ? 'starting' : run.state,
    startedAt: run.startedAt,
    calls,
    denials,
    bytes,
    command: run.command,
  };
}

export function summaryOf(
  run: DaemonRun,
  changes: Changes = { changes: [], changeCount: 0, unwalked: 0 },
  now: number,
  ledgerIndex: number,
): RunSummary {
  const { calls, denials, bytes, firstCallMs } = run.tally.counts();
  return {
    run: run.id,
    agent: run.grant.agent,
    environment: run.grant.environment,
    mode: run.grant.mode,
    calls,
    denials,
    denied: run.tally.lines(),
    bytes,
    ...changes,
    durationMs: now - run.startedAt,
    firstCallMs,
    ledgerIndex,
  };
}
