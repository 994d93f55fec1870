// The policy of one run from its configuration: the policies as written, the grant of this agent in
// this environment, and what `--allow` added for this run only.

import { type AllowEntry, parseAllow } from '../config/allow.ts';
import type { Config } from '../config/config.ts';
import { PRESETS } from '../config/presets.ts';
import type { Selected } from '../config/select.ts';
import { BelayError } from '../core/errors.ts';
import type { Engine } from './engine.ts';
import { grantPolicies } from './grants.ts';
import { createPolicy, type Policy } from './policy.ts';
import { routeId } from './routes.ts';
import type { KnownNames } from './rules.ts';

/** Throws ERR_USAGE for an entry that is neither a host nor a preset, ERR_CONFIG for a policy. */
export function policyForRun(
  engine: Engine,
  config: Config,
  selected: Selected,
  allow: readonly string[] = [],
): Policy {
  const { agent, environment } = selected;
  const entries = allowedTo(selected, allow);
  return createPolicy({
    engine,
    policies: [...config.policies, ...grantPolicies({ agent, environment, allow: entries })],
    presets: PRESETS,
    granted: entries.flatMap((entry) => (entry.kind === 'preset' ? [entry.text] : [])),
    routes: config.routes,
    names: namesOf(config),
  });
}

export function namesOf({ agents, environments, routes }: Config): KnownNames {
  const presets = PRESETS.flatMap((preset) => preset.routes.map((route) => route.paths));
  const ids = PRESETS.flatMap(({ name, routes: all }) => all.map((_, i) => routeId(name, i)));
  return {
    agents: [...agents.keys()],
    environments: [...environments.keys()],
    words: {
      routes: [...routes.map(({ name }) => name), ...ids],
      template: ['', ...routes.flatMap(({ paths }) => paths), ...presets.flat()],
      taint: routes.flatMap(({ taint }) => taint ?? []),
    },
  };
}

/** What the grant allows, and what was allowed for this run only. Throws ERR_USAGE. */
export function allowedTo({ grant }: Selected, allow: readonly string[]): readonly AllowEntry[] {
  return [...(grant?.allow ?? []), ...allowed(allow)];
}

function allowed(texts: readonly string[]): readonly AllowEntry[] {
  return texts.map((text) => {
    const entry = parseAllow(text, `--allow ${text}`);
    if (entry.kind !== 'fault') return entry;
    const { message, hint } = entry;
    throw new BelayError('ERR_USAGE', `--allow: ${message}`, hint === undefined ? {} : { hint });
  });
}
