// From Cedar's decision to a verdict, and to what the agent is told, which is terse (I8). A policy
// that failed counts as a denial: Cedar would pass over a forbid that it could not evaluate.

import { type Host, hostPort } from '../core/target.ts';
import type { Denial, DenyCode, Verdict } from '../core/verdict.ts';
import type { CallFacts } from './classify.ts';
import type { PolicyRequest } from './request.ts';
import type { Rule } from './rules.ts';

export interface Decision {
  readonly allowed: boolean;
  /** The permits that hold, or the forbids that forbade. */
  readonly policies: readonly string[];
  readonly errors: readonly { readonly policy?: string; readonly error: string }[];
}

export function verdictOf(
  { allowed, policies, errors }: Decision,
  request: PolicyRequest,
  rules: ReadonlyMap<string, Rule>,
): Verdict {
  const [error] = errors;
  if (error !== undefined) {
    const failing = errors.flatMap(({ policy }) => (policy === undefined ? [] : [policy]));
    const name = error.policy === undefined ? 'the decision' : `policy \`${error.policy}\``;
    return deny(
      'policy.error',
      `${name} failed: ${error.error}`,
      'could not be decided',
      request,
      failing,
    );
  }
  if (!allowed && policies.length > 0) {
    const by = policies.map((id) => `\`${id}\``).join(', ');
    return deny('policy.forbid', `forbidden by ${by}`, 'is not allowed', request, policies);
  }
  if (!allowed) {
    const { agent, environment, action, host } = request;
    const ref = 'ref' in request.context ? ` of \`${request.context.ref}\`` : '';
    const what = `\`${action}\`${ref} on \`${host}\` for \`${agent}\` in \`${environment}\``;
    return deny('policy.no-permit', `no policy permits ${what}`, 'is not granted', request, []);
  }
  const approvals = policies.map((id) => rules.get(id)?.approval);
  const [approval] = approvals;
  if (approval !== undefined && approvals.every((named) => named !== undefined)) {
    return { kind: 'hold', approval, policies };
  }
  // A permit that would need an approval did not decide; the others did.
  const deciding = policies.filter((_, i) => approvals[i] === undefined);
  return { kind: 'permit', policies: deciding };
}

/** Not by a policy: nothing could be decided. */
export function unreadablePush(request: PolicyRequest, reason: string): Denial {
  return deny('push.unreadable', reason, 'gets no push that cannot be read', request, []);
}

/** Not by a policy: what the configuration says of the body is not so. */
export function unreadableBody(request: PolicyRequest, reason: string): Denial {
  return deny('body.unreadable', reason, 'gets no body that cannot be read', request, []);
}

/** Not by a policy: one would need what nobody knows any more. */
export function uncountable(target: CallFacts['target'], mostHosts: number): Denial {
  const { host, port } = target;
  const reason = `a policy reads \`hostCalls\`, which is kept for ${mostHosts} hosts of a run`;
  return denied('policy.error', reason, `${whereOf(host, port)} is one host too many`, []);
}

/** What a push asked for, in the words of git. */
const PUSHED: Readonly<Record<string, string>> = {
  unproven: 'a forced push to',
  delete: 'a deletion of',
};

function deny(
  code: DenyCode,
  reason: string,
  saying: string,
  { host, context }: PolicyRequest,
  policies: readonly string[],
): Denial {
  const at = whereOf(host, context.port);
  const where =
    'ref' in context ? `${PUSHED[context.change] ?? 'a push to'} ${context.ref} on ${at}` : at;
  return denied(code, reason, `${where} ${saying}`, policies);
}

function whereOf(host: Host, port: number): string {
  return port === 443 || port === 80 ? host : hostPort({ host, port });
}

function denied(code: DenyCode, reason: string, what: string, policies: readonly string[]): Denial {
  const told = { status: 403, message: `belay denied this call: ${what}` };
  return { kind: 'deny', step: 'decide', code, reason, told, policies };
}
