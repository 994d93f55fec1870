// The reference monitor: the ten steps that every call takes, on one screen. Whatever an adapter
// hands over, either an upstream sees exactly what was decided, after it was written down, or the
// agent gets a denial that is in the ledger too. Trusts its parts to keep their own contracts.

import { setTimeout as sleep } from 'node:timers/promises';
import { reserve } from '../budget/budgets.ts';
import type { Call, Mode, Response, Result } from '../core/call.ts';
import type { Intent } from '../core/entry.ts';
import { BelayError, reasonOf } from '../core/errors.ts';
import type { Clock, RunId } from '../core/ids.ts';
import type { Denial, DenyCode, Hold, Step, Told } from '../core/verdict.ts';
import type { Runs } from '../identity/runs.ts';
import type { Ledger } from '../ledger/ledger.ts';
import { halts, type Stops, type StopView } from '../stop/stops.ts';
import type { Withheld } from '../vault/minted.ts';
import type { Denials } from './denials.ts';
import { type Classified, headOf, type MonitoredRun, UNCLASSIFIED } from './facts.ts';
import { meter } from './meter.ts';

/**
 * Carries a permitted call out, unless `stopped` answers once nothing but the sending is left. A
 * failure is a value: the intent is already written.
 */
export type Carry = (
  call: Call,
  run: MonitoredRun,
  stopped: () => BelayError | undefined,
) => Promise<Response | Failure>;
export interface Failure {
  readonly kind: 'failed';
  readonly code: DenyCode;
  readonly reason: string;
}

export interface MonitorParts {
  readonly runs: Runs<MonitoredRun>;
  readonly stops: Stops;
  readonly ledger: Ledger;
  readonly denials: Denials;
  readonly carry: { readonly live: Carry };
  /** Hears of every finished call, off the hot path. */
  readonly observe: (run: RunId, event: 'permitted' | 'denied' | 'settled') => void;
  readonly clock: Clock;
}

export interface Monitor {
  perform(call: Call): Promise<Result>;
}

export function createMonitor(parts: MonitorParts): Monitor {
  const { runs, stops, ledger, denials, carry, observe, clock } = parts;

  async function perform(call: Call): Promise<Result> {
    const startedAt = clock();
    // 1 identify: the run behind the socket, its agent, environment and grant.
    const run = runs.identify(call.run);
    if ('step' in run) return refuse(call, undefined, UNCLASSIFIED, run);
    // 2 stop?: the effective state. While the run is paused, the call waits.
    let before = stops.check(run.scopes);
    if (before.state === 'paused') {
      before = await endOfPause(stops, run.scopes, call.signal);
      const still = runs.identify(call.run);
      if ('step' in still) return refuse(call, run, UNCLASSIFIED, still);
    }
    if (before.state !== 'none') return refuse(call, run, UNCLASSIFIED, stopped('stop', before));
    // 3 classify: what the call would do, and why we think so.
    const classified = run.judge.classify(call);
    // 4 decide: policy first; what only an approval permits is held, and held means denied.
    const verdict = run.judge.decide(call, classified);
    if (verdict.kind === 'deny') return refuse(call, run, classified, verdict);
    if (verdict.kind === 'hold') return refuse(call, run, classified, held(call, verdict));
    run.judge.permitted(call);
    // INVARIANT: I5: not even a placeholder goes where its credential does not belong.
    const stray = run.vault.refusal(call, classified.kind, run.grant.environment);
    if (stray !== undefined) return refuse(call, run, classified, misplaced(stray));
    if (inert(run.grant.mode, classified)) return refuse(call, run, classified, inShadow(run));
    // 5 reserve: an upper bound in every scope, or nothing.
    const size = call.body.kind === 'buffered' ? call.body.bytes.length : 0;
    const reservation = reserve(run.budgets, size);
    if (reservation.kind === 'refused') {
      return refuse(call, run, classified, overBudget(reservation.unit, reservation.reason));
    }
    // 6 intend. INVARIANT: I2: nothing is sent before this entry is on the disk.
    const { headers, query, body, names } = run.vault.inject(call, run.grant.environment);
    const intent: Intent = {
      ...headOf(call, run, classified),
      type: 'intent',
      run: call.run,
      policies: verdict.policies,
      credentials: names,
      reserved: { calls: 1, bytes: reservation.grantedBytes() },
    };
    try {
      await ledger.append(intent);
    } catch (error) {
      reservation.release();
      return refuse(call, run, classified, unwritten(reasonOf(error)));
    }
    // CRASH: from here on recovery finds an intent without an outcome and writes outcome.unknown.
    // 7 stop again. INVARIANT: I4: a stop that landed while the disk worked keeps the call here.
    const after = stops.check(run.scopes);
    const settle = meter({
      call,
      durableFirst: classified.effect === 'irreversible',
      run,
      stops,
      ledger,
      clock,
      startedAt,
      reservation,
      after,
      observe,
    });
    const end = (denial: Denial): Result =>
      settle.refused({ ...denial, told: toldTo(call, classified, denial) });
    if (halts(after)) return end(stopped('stop', after));
    if (call.signal.aborted) return end(gone());
    // 8 carry out: with the credential in, through the one door.
    observe(call.run, 'permitted');
    const outward: Call = { ...call, headers, query, body: settle.request(body) };
    const answer = await carry.live(outward, run, settle.stopped);
    if (answer.kind === 'failed') return end(failed(answer));
    // INVARIANT: I5: no value comes back either, and no token that was obtained.
    const shown = await run.vault.screen(call, run.grant.environment, answer);
    if (shown.kind === 'withheld') return end(withheld(shown));
    if (shown.kind === 'unreadable') {
      abandon(answer);
      return end(unreadable(shown.why));
    }
    // 9 settle and 10 observe: when the last byte has passed, or when the flow breaks.
    return settle.response(shown.answer, shown);
  }

  /** A denial is durable before the agent hears of it, unless the disk is what failed or there were
   * too many of them. */
  async function refuse(
    call: Call,
    run: MonitoredRun | undefined,
    classified: Classified,
    denial: Denial,
  ): Promise<Result> {
    const { step, code, reason, policies } = denial;
    // Whatever refused it, a model's client understands its own words alone.
    const known = runs.get(call.run)?.judge.classify(call) ?? classified;
    const told = toldTo(call, known, denial);
    const head = headOf(call, run, classified);
    try {
      const { written, waitMs } = await denials.record({
        type: 'denial',
        run: call.run,
        ...head,
        step,
        code,
        reason,
        policies,
        told,
      });
      if (written) run?.tally.denied(head, denial);
      await patience(waitMs, call.signal);
    } catch (error) {
      return { kind: 'denied', denial: unwritten(reasonOf(error)) };
    }
    observe(call.run, 'denied');
    return { kind: 'denied', denial: { ...denial, told } };
  }

  return { perform };
}

/** How long a call waits for the end of a pause. */
const PAUSE_PATIENCE_MS = 60_000;

/** The stop state once it is no pause, or after the longest wait. */
async function endOfPause(
  stops: Stops,
  scopes: MonitoredRun['scopes'],
  signal: AbortSignal,
): Promise<StopView> {
  let view = stops.check(scopes);
  const done = new AbortController();
  const either = AbortSignal.any([signal, done.signal]);
  let over = false;
  const wait = patience(PAUSE_PATIENCE_MS, either).then(() => {
    over = true;
  });
  while (view.state === 'paused' && !over) {
    await Promise.race([wait, stops.moved()]);
    view = stops.check(scopes);
  }
  done.abort();
  return view;
}

/** Resolves when a time has passed, or earlier when the client goes away. */
async function patience(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal, ref: false }).catch(() => {});
}

const STOPPED = 'this run has been stopped';
const REFUSED: Partial<Record<DenyCode, string>> = {
  'address.refused': 'this address is refused',
  stopped: STOPPED,
};

/** INVARIANT: I6: in shadow mode only reads and model calls leave. */
function inert(mode: Mode, classified: Classified): boolean {
  return mode === 'shadow' && classified.effect !== 'read' && classified.kind !== 'llm';
}

/**
 * Coding agents take 426 for a WebSocket as final, and ask over HTTP; of a model call they take 400 as
 * final, in its provider's words. Other statuses they retry.
 */
function toldTo({ kind }: Call, { model }: Classified, { told }: Denial): Told {
  const final = kind === 'websocket' ? 426 : model === undefined ? 403 : 400;
  const status = told.status === 403 ? final : told.status;
  return model === undefined ? { ...told, status } : { ...told, status, dialect: model };
}

function deny(step: Step, code: DenyCode, reason: string, status: number, message: string): Denial {
  return { kind: 'deny', step, code, reason, told: { status, message }, policies: [] };
}

function stopped(step: Step, view: StopView): Denial {
  if (view.cause === 'guard') {
    return deny(step, 'guard.lost', view.reason, 503, 'calls are suspended');
  }
  const reason = `${view.state}: ${view.reason}`;
  if (view.state === 'paused') return deny(step, 'stopped', reason, 503, 'this run is paused');
  return deny(step, 'stopped', reason, 403, STOPPED);
}

function held(call: Call, hold: Hold): Denial {
  const reason = `needs the approval \`${hold.approval}\`, which nobody has given`;
  const message = `this call to ${call.target.host} needs an approval`;
  return { ...deny('decide', 'approval.required', reason, 403, message), policies: hold.policies };
}

function misplaced(reason: string): Denial {
  return deny('decide', 'credential.misplaced', reason, 403, 'a credential does not belong there');
}

function inShadow(run: MonitoredRun): Denial {
  const message = `this run is under review (${run.id}): the change was listed, not made`;
  return deny('carry out', 'shadow.write', 'a write in shadow mode', 403, message);
}

function overBudget(unit: 'calls' | 'bytes', reason: string): Denial {
  return deny('reserve', `budget.${unit}`, reason, 403, `the budget for ${unit} is exhausted`);
}

function unreadable(reason: string): Denial {
  const message = 'the answer is in a coding that is not taken';
  return deny('release', 'answer.unreadable', reason, 502, message);
}

function withheld({ code, why }: Withheld): Denial {
  if (code === 'upstream.broken') {
    return deny('release', code, why, 502, 'the upstream could not be reached');
  }
  return deny('release', code, why, 403, 'the answer holds a token, which stays outside');
}

/** Ends an upstream's part of a call whose answer nobody gets. */
function abandon({ body }: Response): void {
  const nobody = { write: () => false, end() {}, fail() {} };
  body.flow(nobody).abort(new BelayError('ERR_ABORTED', 'the answer is refused'));
}

function unwritten(reason: string): Denial {
  return deny('intend', 'ledger.failed', reason, 503, 'the record cannot be written');
}

function gone(): Denial {
  return deny('release', 'upstream.broken', 'the client left before its call was sent', 499, '');
}

function failed({ code, reason }: Failure): Denial {
  const refusal = REFUSED[code];
  const message = refusal ?? 'the upstream could not be reached';
  return deny('carry out', code, reason, refusal === undefined ? 502 : 403, message);
}
