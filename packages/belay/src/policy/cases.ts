// `belay policy test`: calls with the verdict that is expected of each, in `policies/tests.jsonc`,
// decided by the policies as they stand.

import { z } from 'zod';
import { type ConfigBundle, parseBundle } from '../config/bundle.ts';
import type { Config, PolicyText } from '../config/config.ts';
import { parseDocument } from '../config/document.ts';
import { issueProblems } from '../config/issues.ts';
import { configError } from '../config/problem.ts';
import { selectGrant } from '../config/select.ts';
import { BelayError } from '../core/errors.ts';
import type { Verdict } from '../core/verdict.ts';
import type { Engine } from './engine.ts';
import { type ExplainedPolicy, explainWith } from './explain.ts';
import { policyForRun } from './for-run.ts';
import type { Policy } from './policy.ts';

const casesSchema = z
  .array(
    z.strictObject({
      name: z.string().min(1),
      agent: z.string().optional(),
      environment: z.string().optional(),
      method: z.string().default('GET'),
      url: z.string(),
      push: z.array(z.string()).max(32).optional(),
      body: z.json().optional(),
      taint: z.array(z.string()).max(32).optional(),
      expect: z.enum(['permit', 'deny', 'hold']),
    }),
  )
  .max(10_000);

export interface CaseResult {
  readonly name: string;
  /** `policies/tests.jsonc:3:3`. */
  readonly origin: string;
  readonly expected: Verdict['kind'];
  readonly actual: Verdict['kind'];
  readonly passed: boolean;
  readonly policies: readonly ExplainedPolicy[];
}

/** Throws ERR_CONFIG for a broken case or policy, with its place. */
export function testPolicies(
  engine: Engine,
  bundle: ConfigBundle,
  cases: PolicyText,
): readonly CaseResult[] {
  const config = parseBundle(bundle);
  const document = parseDocument(cases.text, cases.file);
  if (!('file' in document)) throw configError(document);
  const parsed = casesSchema.safeParse(document.value);
  if (!parsed.success) {
    throw configError(issueProblems(document, parsed.error.issues, casesSchema));
  }
  using policies = new DisposableStack();
  const policyOf = policyByAgent(engine, config, policies);
  return parsed.data.map((event, i) => {
    const origin = document.origin([i]);
    try {
      const { verdict, policies: deciding } = explainWith(policyOf(event), config, event);
      const { name, expect: expected } = event;
      const actual = verdict.kind;
      return { name, origin, expected, actual, passed: actual === expected, policies: deciding };
    } catch (error) {
      if (!(error instanceof BelayError) || error.code === 'ERR_CONFIG') throw error;
      throw configError([document.problem([i], error.message, error.hint)]);
    }
  });
}

type Names = { readonly agent?: string | undefined; readonly environment?: string | undefined };

/** One policy for all cases of an agent in an environment. */
function policyByAgent(
  engine: Engine,
  config: Config,
  held: DisposableStack,
): (names: Names) => Policy {
  const made = new Map<string, Policy>();
  return (names) => {
    const selected = selectGrant(config, names);
    const key = JSON.stringify([selected.agent, selected.environment]);
    let policy = made.get(key);
    if (policy === undefined) {
      policy = held.use(policyForRun(engine, config, selected));
      made.set(key, policy);
    }
    return policy;
  };
}
