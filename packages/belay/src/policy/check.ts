// `belay policy check`: every problem of a configuration and its policies, each with its place.

import { type ConfigBundle, parseBundle } from '../config/bundle.ts';
import { configProblems } from '../config/parse.ts';
import { inOrder, type Problem } from '../config/problem.ts';
import type { Engine } from './engine.ts';
import { namesOf } from './for-run.ts';
import { grantPolicies } from './grants.ts';
import { readRules } from './rules.ts';
import { cedarSchema, typesOf } from './schema.ts';

/** Empty when all is right. A broken belay.jsonc is reported alone: names come from it. */
export function checkPolicies(engine: Engine, bundle: ConfigBundle): readonly Problem[] {
  if (bundle.text !== null) {
    const problems = configProblems(bundle.text, bundle.file);
    if (problems.length > 0) return inOrder(problems);
  }
  const config = parseBundle(bundle);
  const sources = [...config.policies, ...config.grants.flatMap(grantPolicies)];
  const schema = cedarSchema(typesOf(config.routes));
  return inOrder(readRules(engine, sources, schema, namesOf(config)).problems);
}
