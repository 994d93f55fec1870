// The configuration that `belay init` writes: one agent, one environment, and the narrowest grant
// that lets the agent start.

import { BelayError } from '../core/errors.ts';

interface InitTarget {
  readonly preset: string;
  readonly credential: {
    readonly name: string;
    readonly variable: string;
    readonly host: string;
    readonly header: string;
    readonly format: string;
    readonly paths: string;
  };
}

const ANTHROPIC: InitTarget = {
  preset: 'model:anthropic',
  credential: {
    name: 'anthropic',
    variable: 'ANTHROPIC_API_KEY',
    host: 'api.anthropic.com',
    header: 'x-api-key',
    format: '{}',
    paths: '/v1/**',
  },
};

const openai = (variable: string): InitTarget => ({
  preset: 'model:openai',
  credential: {
    name: 'openai',
    variable,
    host: 'api.openai.com',
    header: 'authorization',
    format: 'Bearer {}',
    paths: '/v1/**',
  },
});

const GOOGLE: InitTarget = {
  preset: 'model:google',
  credential: {
    name: 'google',
    variable: 'GEMINI_API_KEY',
    host: 'generativelanguage.googleapis.com',
    header: 'x-goog-api-key',
    format: '{}',
    paths: '/v1beta/**',
  },
};

const TARGETS: Readonly<Record<string, InitTarget>> = {
  claude: ANTHROPIC,
  // `codex exec` takes its key from here.
  codex: openai('CODEX_API_KEY'),
  opencode: openai('OPENAI_API_KEY'),
  pi: ANTHROPIC,
  gemini: GOOGLE,
};

export const INIT_TARGETS: readonly string[] = Object.keys(TARGETS);

/** The text of a belay.jsonc; `name` is a known agent, or absent for a bare one. */
export function initConfig(name: string | undefined): string {
  const target = name === undefined ? undefined : TARGETS[name];
  if (name !== undefined && target === undefined) {
    throw new BelayError('ERR_USAGE', `no template for \`${name}\``, {
      hint: `there is ${INIT_TARGETS.map((known) => `\`${known}\``).join(', ')}`,
    });
  }
  const agent = name ?? 'agent';
  const allow = target === undefined ? '' : `"${target.preset}"`;
  const credentials =
    target === undefined
      ? ''
      : `
  // The agent sees a placeholder; the gateway puts the value in, on this host only.
  "credentials": {
    "${target.credential.name}": {
      "from": "env:${target.credential.variable}",
      "environment": "local",
      "host": "${target.credential.host}",
      "methods": ["GET", "POST"],
      "paths": ["${target.credential.paths}"],
      "header": "${target.credential.header}",
      "format": "${target.credential.format}",
      "variable": "${target.credential.variable}"
    }
  },`;
  return `{
  "version": 1,
  "agents": { "${agent}": { "environment": "local" } },
  "environments": { "local": {} },${credentials}
  // What the agent may reach. Hosts and presets; everything else is denied and listed.
  "grants": [
    { "agent": "${agent}", "environment": "local", "allow": [${allow}], "mode": "live" }
  ]
}
`;
}
