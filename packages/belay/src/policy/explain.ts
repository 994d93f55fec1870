// `belay policy explain`: what would happen to a call, and which policy says so, where. Pure over a
// bundle. Says what step 4 decides; that a grant expired or is under review is a note, because
// step 1 refuses such a run before policy is asked.

import { type ConfigBundle, parseBundle } from '../config/bundle.ts';
import type { Config, GrantConfig } from '../config/config.ts';
import { selectGrant } from '../config/select.ts';
import { didYouMean } from '../config/suggest.ts';
import type { CallKind, EffectClass } from '../core/call.ts';
import { BelayError } from '../core/errors.ts';
import { repositoryOf, serviceAsked } from '../core/push.ts';
import { parseHost, printable, type Scheme } from '../core/target.ts';
import type { Verdict } from '../core/verdict.ts';
import { askedPush } from './asked-push.ts';
import type { CallFacts } from './classify.ts';
import type { Engine } from './engine.ts';
import { policyForRun } from './for-run.ts';
import type { Policy } from './policy.ts';
import { remedyFor } from './remedy.ts';
import { NOTHING_BEFORE } from './request.ts';

export interface ExplainEvent {
  readonly agent?: string | undefined;
  readonly environment?: string | undefined;
  readonly method: string;
  readonly url: string;
  readonly allow?: readonly string[];
  /** Of a push: `CHANGE:REF` for each ref. */
  readonly push?: readonly string[] | undefined;
  /** JSON; absent: no body. */
  readonly body?: unknown;
  /** What the run was tainted with before. */
  readonly taint?: readonly string[] | undefined;
  /** Milliseconds since the epoch, to tell whether the grant expired. */
  readonly nowMs?: number;
}

export interface Explanation {
  readonly agent: string;
  readonly environment: string;
  readonly effect: EffectClass;
  readonly kind: CallKind;
  readonly reasons: readonly string[];
  readonly verdict: Verdict;
  /** The deciding policies; empty when nothing permits. */
  readonly policies: readonly ExplainedPolicy[];
  readonly remedy: string | null;
  readonly notes: readonly string[];
}

export interface ExplainedPolicy {
  readonly id: string;
  readonly effect: 'permit' | 'forbid';
  /** `policies/web.cedar:3`, or the `allow` entry: `belay.jsonc:7:20`, `--allow npm-read`. */
  readonly origin: string;
  readonly text: string;
  readonly approval?: string;
}

/** Throws ERR_CONFIG for the bundle, ERR_USAGE for the event, ERR_NOT_FOUND for its names. */
export function explain(engine: Engine, bundle: ConfigBundle, event: ExplainEvent): Explanation {
  const config = parseBundle(bundle);
  const selected = selectGrant(config, event);
  using policy = policyForRun(engine, config, selected, event.allow);
  return explainWith(policy, config, event);
}

export function explainWith(policy: Policy, config: Config, event: ExplainEvent): Explanation {
  const { agent, environment, grant } = selectGrant(config, event);
  const call = callOf(event);
  const classified = policy.classify(call);
  const shadow = grant?.mode === 'shadow';
  const { taint = [] } = event;
  const known = config.routes.flatMap((route) => route.taint ?? []);
  const strange = taint.find((label) => !known.includes(label));
  if (strange !== undefined) {
    throw new BelayError('ERR_NOT_FOUND', `unknown taint \`${printable(strange)}\``, {
      hint: didYouMean(strange, known) ?? 'declare it under `routes` in belay.jsonc',
    });
  }
  const before = { ...NOTHING_BEFORE, taint };
  const verdict = policy.decide(call, classified, { agent, environment, shadow }, before);
  const policies = policy.rules
    .filter(({ id }) => verdict.policies.includes(id))
    .map(({ id, effect, origin, text, approval }) => ({
      id,
      effect,
      origin,
      text,
      ...(approval === undefined ? {} : { approval }),
    }));
  const { target, method, path } = call;
  const { effect } = classified;
  const queryKeys = [...new URLSearchParams(call.query).keys()];
  const service = serviceAsked(path, call.query);
  const asked = {
    ...(service === undefined ? {} : { service }),
    ...(call.push?.kind === 'push' ? { push: call.push } : {}),
  };
  const head = { method, path, queryKeys, effect, ...asked, ...target };
  const remedy = verdict.kind === 'deny' ? remedyFor({ ...head, code: verdict.code }) : null;
  return {
    agent,
    environment,
    ...classified,
    verdict,
    policies,
    remedy,
    notes: [...notesOn(grant, event.nowMs), ...notesOnPush(call)],
  };
}

/** Without its body, what a push would do is not known. */
function notesOnPush({ method, path, push }: CallFacts): readonly string[] {
  if (method !== 'POST' || push !== undefined || repositoryOf(path) === undefined) return [];
  return ['a push is also judged by what it does to each of its refs: ask with `--push`'];
}

function callOf({ method, url: text, push, body }: ExplainEvent): CallFacts {
  const url = URL.parse(text);
  const scheme = SCHEMES.find((one) => `${one}:` === url?.protocol);
  if (url === null || scheme === undefined) {
    throw new BelayError('ERR_USAGE', `\`${printable(text)}\` is not an http or https URL`);
  }
  if (!/^[A-Z]{1,20}$/.test(method)) {
    const hint = `did you mean \`${method.toUpperCase()}\`?`;
    throw new BelayError('ERR_USAGE', `\`${printable(method)}\` is not a method`, { hint });
  }
  if (/%2f|%5c/i.test(url.pathname)) {
    throw new BelayError('ERR_USAGE', 'a path with an encoded slash is refused by the gateway');
  }
  const tunnel = scheme === 'tls' || scheme === 'tcp';
  if (tunnel !== (method === 'CONNECT')) {
    const hint = 'CONNECT is for `tls://HOST` and `tcp://HOST:PORT`, and nothing else is';
    throw new BelayError('ERR_USAGE', `no call is \`${method} ${scheme}:\``, { hint });
  }
  const port = url.port === '' ? USUAL_PORT[scheme] : Number(url.port);
  if (port === undefined) throw new BelayError('ERR_USAGE', `\`${printable(text)}\` has no port`);
  const path = url.pathname === '' ? '/' : url.pathname;
  return {
    kind: tunnel ? 'tunnel' : 'http',
    method,
    target: { scheme, host: parseHost(url.hostname), port },
    path,
    query: url.search.slice(1),
    ...(body === undefined
      ? { body: { kind: tunnel ? 'streamed' : 'none' } }
      : {
          headers: [['content-type', 'application/json']],
          body: { kind: 'buffered', bytes: Buffer.from(JSON.stringify(body)) },
        }),
    ...(push === undefined ? {} : { push: askedPush(path, push) }),
  };
}

const SCHEMES: readonly Scheme[] = ['https', 'http', 'tls', 'tcp'];
const USUAL_PORT: Readonly<Partial<Record<Scheme, number>>> = { https: 443, http: 80, tls: 443 };

function notesOn(grant: GrantConfig | undefined, nowMs: number | undefined): readonly string[] {
  if (grant === undefined) return ['no grant: only `--allow` and policy files count'];
  const notes: string[] = [];
  if (grant.state === 'under review' && grant.mode === 'live') {
    notes.push('the grant is under review: nothing live is permitted');
  }
  if (grant.mode === 'shadow') notes.push('the grant is in shadow mode: writes are refused');
  if (grant.expiresAt !== undefined && nowMs !== undefined && nowMs >= grant.expiresAt) {
    notes.push(`the grant expired at ${new Date(grant.expiresAt).toISOString()}`);
  }
  return notes;
}
