// What a sub-run may do: what its own policy and its parent's permit, each asked as if it stood alone.

import { SEVERITY } from './classify.ts';
import type { RunJudge } from './policy.ts';

/** INVARIANT: what `above` does not permit, the result does not permit. */
export function within(own: RunJudge, above: RunJudge, parent: string): RunJudge {
  return {
    classify(call) {
      const [one, other] = [own.classify(call), above.classify(call)];
      const graver = SEVERITY[other.effect] > SEVERITY[one.effect] ? other : one;
      // A model call is one for both, or none.
      return { ...graver, kind: one.kind === other.kind ? one.kind : call.kind };
    },
    decide(call) {
      const verdict = own.decide(call, own.classify(call));
      if (verdict.kind !== 'permit') return verdict;
      const more = above.decide(call, above.classify(call));
      switch (more.kind) {
        case 'permit':
          return { kind: 'permit', policies: [...verdict.policies, ...more.policies] };
        case 'hold':
          return more;
        case 'deny':
          return { ...more, code: 'grant.parent', reason: `\`${parent}\` may not: ${more.reason}` };
      }
    },
    permitted(call) {
      own.permitted(call);
      above.permitted(call);
    },
  };
}
