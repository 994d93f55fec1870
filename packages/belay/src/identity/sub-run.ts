// A sub-run acts for its parent, and may never do more: its grant is the more careful of both in each
// respect. A chain of sub-runs is short, and each of them ends by itself.

import { BelayError } from '../core/errors.ts';
import type { Grant, RunIdentity } from './runs.ts';

/** Sub-runs below a run that has no parent. */
export const MOST_DEPTH = 3;
const LONGEST_MS = 24 * 60 * 60 * 1000;

/** INVARIANT: never wider than the parent's. Throws ERR_USAGE for one that cannot be below it. */
export function narrowedGrant(own: Grant, parent: RunIdentity, now: number): Grant {
  const above = parent.grant;
  if (own.environment !== above.environment) {
    throw new BelayError(
      'ERR_USAGE',
      `\`${parent.id}\` acts in \`${above.environment}\`, and its sub-runs do not leave it`,
    );
  }
  // The parent is part of the lineage that its sub-run adds one to.
  if (lineageOf(parent).length > MOST_DEPTH) {
    throw new BelayError('ERR_USAGE', `sub-runs are at most ${MOST_DEPTH} deep`);
  }
  const { agent, environment } = own;
  return {
    agent,
    environment,
    mode: own.mode === 'shadow' || above.mode === 'shadow' ? 'shadow' : 'live',
    state: own.state === 'active' ? above.state : own.state,
    expiresAt: Math.min(
      own.expiresAt ?? Number.POSITIVE_INFINITY,
      above.expiresAt ?? Number.POSITIVE_INFINITY,
      now + LONGEST_MS,
    ),
  };
}

/** A run and those that it is a part of, the nearest first. */
export function lineageOf<Run extends { readonly parent?: Run }>(run: Run): readonly Run[] {
  const lineage: Run[] = [];
  for (let one: Run | undefined = run; one !== undefined; one = one.parent) lineage.push(one);
  return lineage;
}
