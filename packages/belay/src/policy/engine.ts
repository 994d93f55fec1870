// The door to Cedar. The WebAssembly module is loaded on demand, once a process: loading it costs
// more than most commands take. Prepared policy sets live in a table inside the module that knows
// no deletion, so their slots are counted here and used again.

import type {
  AuthorizationAnswer,
  Context,
  Entities,
  EntityUid,
  PolicyJson,
  ValidationAnswer,
} from '@cedar-policy/cedar-wasm/nodejs';
import { BelayError } from '../core/errors.ts';

export interface CedarRequest {
  readonly principal: EntityUid;
  readonly action: EntityUid;
  readonly resource: EntityUid;
  readonly context: Context;
  readonly entities: Entities;
}

/** A policy set inside the module, parsed. */
export interface PreparedSet {
  evaluate(request: CedarRequest): AuthorizationAnswer;
  /** Gives the slot back; the set must not be asked again. */
  release(): void;
}

export interface Engine {
  /** Parses and validates one text, strictly; policies are named policy0, policy1 ... */
  validate(text: string, schema: string): ValidationAnswer;
  /** The syntax tree of one policy. */
  tree(policy: string): PolicyJson;
  prepare(policies: Readonly<Record<string, string>>): PreparedSet;
}

const MOST_VALIDATED = 256;
const LONGEST_VALIDATED = 64 * 1024;

// The table of the module is one a process, so what counts its slots is too.
let loading: Promise<Engine> | undefined;

export function loadEngine(): Promise<Engine> {
  loading ??= import('@cedar-policy/cedar-wasm/nodejs').then(engineOf);
  return loading;
}

type Cedar = typeof import('@cedar-policy/cedar-wasm/nodejs');

function engineOf(cedar: Cedar): Engine {
  // A text has one answer under a schema: run after run brings the same ones.
  const validated = new Map<string, ValidationAnswer>();
  const free: string[] = [];
  let made = 0;
  return {
    validate(text, schema) {
      const asked = `${schema}\0${text}`;
      const known = validated.get(asked);
      if (known !== undefined) return known;
      const answer = cedar.validate({
        validationSettings: { mode: 'strict' },
        schema,
        policies: { staticPolicies: text },
      });
      if (validated.size >= MOST_VALIDATED) validated.clear();
      if (text.length <= LONGEST_VALIDATED) validated.set(asked, answer);
      return answer;
    },
    tree(policy) {
      const answer = cedar.policyToJson(policy);
      if (answer.type === 'success') return answer.json;
      throw new BelayError('ERR_CONFIG', answer.errors[0]?.message ?? 'not a policy');
    },
    prepare(policies) {
      const slot = free.pop() ?? `slot-${made++}`;
      const answer = cedar.preparsePolicySet(slot, { staticPolicies: { ...policies } });
      if (answer.type === 'failure') {
        free.push(slot);
        throw new BelayError('ERR_CONFIG', answer.errors[0]?.message ?? 'not a policy set');
      }
      let held = true;
      return {
        evaluate(request) {
          if (!held) throw new TypeError('this policy set was released');
          return cedar.statefulIsAuthorized({ ...request, preparsedPolicySetId: slot });
        },
        release() {
          if (held) free.push(slot);
          held = false;
        },
      };
    },
  };
}
