// What the monitor knows of a run and of a call: the shapes that its steps pass on, and the head
// that intents and denials share.

import type { BudgetScope } from '../budget/budgets.ts';
import type { Call, CallKind, EffectClass } from '../core/call.ts';
import type { CallHead } from '../core/entry.ts';
import { excerpt } from '../core/excerpt.ts';
import { serviceAsked } from '../core/push.ts';
import type { Denial, ModelDialect, Verdict } from '../core/verdict.ts';
import type { RunIdentity } from '../identity/runs.ts';
import type { Scope } from '../stop/stops.ts';
import type { Vault } from '../vault/vault.ts';

export interface Classified {
  readonly effect: EffectClass;
  readonly kind: CallKind;
  readonly reasons: readonly string[];
  /** Of a model call: the shape of its provider's errors. */
  readonly model?: ModelDialect;
}

/** Before the third step nothing is known: unknown counts as a write. */
export const UNCLASSIFIED: Classified = {
  effect: 'write',
  kind: 'http',
  reasons: ['not classified'],
};

/** Policy as one run sees it: its own grants and the policies of its configuration. */
export interface Judge {
  classify(call: Call): Classified;
  decide(call: Call, classified: Classified): Verdict;
  /** Hears of each call that it permitted, before another is decided. */
  permitted(call: Call): void;
}

/** Running totals of one run, for its summary and for those who watch. */
export interface Tally {
  denied(head: CallHead, denial: Denial): void;
  settled(head: { readonly bytes: number; readonly firstByteMs: number | undefined }): void;
}

/** The refused attempts of one run. */
export interface RunDenials {
  readonly cap: number;
  /** Within a minute; more pause the run. */
  readonly perMinute: number;
  count: number;
  /** Of the last minute, roughly: it runs off evenly. */
  recent: number;
  /** When that was reckoned. */
  reckonedAt: number;
}

export interface MonitoredRun extends RunIdentity {
  readonly scopes: readonly Scope[];
  readonly budgets: readonly BudgetScope[];
  readonly judge: Judge;
  readonly vault: Vault;
  readonly tally: Tally;
  /** Refused attempts of any kind; see denials.ts. */
  readonly denials: RunDenials;
  readonly parent?: MonitoredRun;
}

/** The head of an intent or a denial. Values of the query may be secret: only its keys are kept. */
export function headOf(
  call: Call,
  run: MonitoredRun | undefined,
  { effect, kind, reasons }: Classified,
): CallHead {
  const { body, push, target } = call;
  const service = serviceAsked(call.path, call.query);
  return {
    call: call.id,
    kind,
    agent: run?.grant.agent ?? '',
    env: run?.grant.environment ?? '',
    mode: run?.grant.mode ?? 'live',
    method: call.method,
    scheme: target.scheme,
    host: target.host,
    port: target.port,
    path: call.path,
    ...(call.query === '' ? {} : { queryKeys: queryKeys(call.query) }),
    effect,
    reasons,
    body:
      body.kind === 'buffered'
        ? { kind: body.kind, sizeBytes: body.bytes.length, sha256: body.sha256 }
        : { kind: body.kind },
    ...(call.retryOf === undefined ? {} : { retryOf: call.retryOf }),
    ...(service === undefined ? {} : { service }),
    ...(push?.kind === 'push' ? { push: { repository: push.repository, refs: push.refs } } : {}),
  };
}

const MOST_KEYS = 64;

export function queryKeys(query: string): readonly string[] {
  const keys = new Set<string>();
  for (const key of new URLSearchParams(query).keys()) {
    if (keys.size === MOST_KEYS) break;
    keys.add(excerpt(key, 128));
  }
  return [...keys].sort();
}
