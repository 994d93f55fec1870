// Which agent, environment and grant a run is under, from what the user named and what the
// configuration declares. Nothing is guessed between several: the user is asked to name one.

import { BelayError } from '../core/errors.ts';
import { printable } from '../core/target.ts';
import type { AgentConfig, Config, GrantConfig } from './config.ts';
import { didYouMean } from './suggest.ts';

export interface Asked {
  readonly agent?: string | undefined;
  readonly environment?: string | undefined;
}

export interface Selected {
  readonly agent: string;
  readonly environment: string;
  /** Absent: nothing is granted beyond what `--allow` says. */
  readonly grant?: GrantConfig;
}

/** Throws ERR_NOT_FOUND for a name that is not declared, ERR_USAGE when one has to be named. */
export function selectGrant(config: Config, asked: Asked = {}): Selected {
  const agent = selectAgent(config, asked.agent);
  const environment = asked.environment ?? agent.environment;
  if (!config.environments.has(environment)) {
    throw unknown('environment', environment, config.environments.keys());
  }
  const grant = config.grants.find(
    (found) => found.agent === agent.name && found.environment === environment,
  );
  return { agent: agent.name, environment, ...(grant === undefined ? {} : { grant }) };
}

function selectAgent({ agents, file }: Config, name: string | undefined): AgentConfig {
  if (name !== undefined) {
    const found = agents.get(name);
    if (found === undefined) throw unknown('agent', name, agents.keys());
    return found;
  }
  const [only, ...others] = agents.values();
  if (only !== undefined && others.length === 0) return only;
  const names = [...agents.keys()].map((known) => `\`${known}\``).join(', ');
  throw only === undefined
    ? new BelayError('ERR_CONFIG', `\`${file}\` declares no agent`, {
        hint: 'add one under `agents`',
      })
    : new BelayError('ERR_USAGE', 'several agents are declared', {
        hint: `name one with --agent: ${names}`,
      });
}

function unknown(what: 'agent' | 'environment', name: string, known: Iterable<string>): BelayError {
  const names = [...known];
  const list = names.map((other) => `\`${other}\``).join(', ');
  return new BelayError('ERR_NOT_FOUND', `unknown ${what} \`${printable(name)}\``, {
    hint: didYouMean(name, names) ?? `declared: ${list === '' ? 'none' : list}`,
  });
}
