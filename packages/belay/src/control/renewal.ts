// The Call that renews a login (RFC 6749 section 6), and how it is judged: it goes where the profile of
// the agent says and nowhere else, and holds a placeholder like a call of the agent's own.

import { hash } from 'node:crypto';
import type { Call, Response } from '../core/call.ts';
import { type CallId, type Clock, type Random, type RunId, uuid7 } from '../core/ids.ts';
import { parseHost } from '../core/target.ts';
import type { Denial } from '../core/verdict.ts';
import type { Judge } from '../monitor/facts.ts';
import type { Login } from '../sandbox/profiles/profile.ts';
import type { StopView } from '../stop/stops.ts';

const MOST_MS = 30_000;

export interface RenewalParts {
  readonly login: Login;
  readonly scopes: readonly string[];
  readonly run: RunId;
  /** The placeholder of the refresh token. */
  readonly refresh: string;
  readonly clock: Clock;
  readonly random: Random;
}

export function renewalCall({ login, scopes, run, refresh, clock, random }: RenewalParts): Call {
  const { host, path, clientId } = login.renewal;
  const asked = {
    grant_type: 'refresh_token',
    refresh_token: refresh,
    client_id: clientId,
    ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
  };
  const bytes = Buffer.from(JSON.stringify(asked));
  return {
    id: uuid7(clock(), random) as CallId,
    run,
    kind: 'http',
    target: { scheme: 'https', host: parseHost(host), port: 443 },
    method: 'POST',
    path,
    query: '',
    headers: [
      ['content-type', 'application/json'],
      ['accept', 'application/json'],
      ['user-agent', 'belay'],
    ],
    body: { kind: 'buffered', bytes, sha256: hash('sha256', bytes) },
    signal: AbortSignal.timeout(MOST_MS),
  };
}

/** In shadow mode too: a model that may be asked needs the login that it is asked with. */
export function judgeOfRenewal({ name, renewal }: Login): Judge {
  return {
    classify: () => ({ effect: 'write', kind: 'llm', reasons: ['renewal of the login'] }),
    decide({ target, method, path }) {
      const fits = target.host === renewal.host && method === 'POST' && path === renewal.path;
      if (fits) return { kind: 'permit', policies: [`login:${name}`] };
      const told = { status: 403, message: 'this is no renewal' };
      const reason = 'not the endpoint of the login';
      return { kind: 'deny', step: 'decide', code: 'policy.no-permit', reason, told, policies: [] };
    },
    // No policy counts what a run does not ask for itself.
    permitted() {},
  };
}

/** Whether the endpoint may have heard of it. */
export function wasSent({ step }: Denial): boolean {
  return step === 'carry out' || step === 'release';
}

/** Others wait for a renewal: it does not wait for the end of a pause, as other calls of its run do. */
export function paused({ state, reason }: StopView): Denial | undefined {
  if (state !== 'paused') return undefined;
  const told = { status: 503, message: 'this run is paused' };
  return { kind: 'deny', step: 'stop', code: 'stopped', reason, told, policies: [] };
}

/** To the end of its body, which settles the call. */
export function drain({ body }: Response): Promise<void> {
  return new Promise((resolve) => {
    body.flow({ write: () => true, end: () => resolve(), fail: () => resolve() });
  });
}
