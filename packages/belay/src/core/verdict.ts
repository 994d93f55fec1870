// A verdict on a call. A denial is a value, not an exception: it names the step that refused, a
// stable code, and exactly what the agent is told, which is terse (I8); the rest is in the ledger.

export type Step =
  | 'identify'
  | 'stop'
  | 'classify'
  | 'decide'
  | 'reserve'
  | 'intend'
  | 'carry out'
  | 'release';

export type DenyCode =
  | 'run.unknown'
  | 'grant.expired'
  | 'grant.under-review'
  | 'grant.parent'
  | 'stopped'
  | 'guard.lost'
  | 'policy.no-permit'
  | 'policy.forbid'
  | 'policy.error'
  | 'push.unreadable'
  | 'body.unreadable'
  | 'approval.required'
  | 'shadow.write'
  | 'budget.calls'
  | 'budget.bytes'
  | 'ledger.failed'
  | 'credential.misplaced'
  | 'answer.unreadable'
  | 'answer.token'
  | 'address.refused'
  | 'address.unresolved'
  | 'upstream.unreachable'
  | 'upstream.tls'
  | 'upstream.broken'
  | 'protocol';

/** What the agent sees: an HTTP status and one line. Never how to switch a control off. */
export interface Told {
  readonly status: number;
  readonly message: string;
  /** Whose words a refused model call is told in. */
  readonly dialect?: ModelDialect;
}

/** The shape of a model provider's errors, which its clients show to their users. */
export type ModelDialect = 'anthropic' | 'openai' | 'google';

export interface Denial {
  readonly kind: 'deny';
  readonly step: Step;
  readonly code: DenyCode;
  /** For the ledger and the operator: what was refused and why. */
  readonly reason: string;
  readonly told: Told;
  readonly policies: readonly string[];
}

export interface Permit {
  readonly kind: 'permit';
  readonly policies: readonly string[];
}

/** Permitted once a person has approved; until approvals exist, the monitor denies it. */
export interface Hold {
  readonly kind: 'hold';
  readonly approval: string;
  readonly policies: readonly string[];
}

export type Verdict = Permit | Hold | Denial;
