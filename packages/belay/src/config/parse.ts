// belay.jsonc from its text to a Config, or to every problem in it. Pure: no file is read here.

import { BelayError } from '../core/errors.ts';
import { buildConfig } from './build.ts';
import type { Config } from './config.ts';
import { type Document, parseDocument } from './document.ts';
import { issueProblems } from './issues.ts';
import { configError, type Problem } from './problem.ts';
import { configSchema } from './schema.ts';

export const CONFIG_FILE = 'belay.jsonc';

/** Parses belay.jsonc. Throws ERR_CONFIG at the first problem; `file` is what messages call it. */
export function parseConfig(text: string, file: string = CONFIG_FILE): Config {
  const config = readConfig(text, file);
  if ('problems' in config) throw configError(config.problems);
  return config;
}

/** Every problem of a belay.jsonc; empty when it is right. */
export function configProblems(text: string, file: string = CONFIG_FILE): readonly Problem[] {
  const config = readConfig(text, file);
  return 'problems' in config ? config.problems : [];
}

/** What holds without a belay.jsonc: one agent in one environment, and nothing granted. */
export function defaultConfig(file: string = CONFIG_FILE): Config {
  return {
    file,
    agents: new Map([['agent', { name: 'agent', environment: 'local', limits: {} }]]),
    environments: new Map([['local', { sandboxRequired: false }]]),
    grants: [],
    credentials: [],
    routes: [],
    upstreams: new Map(),
    policies: [],
    caps: {},
  };
}

function readConfig(
  text: string,
  file: string,
): Config | { readonly problems: readonly Problem[] } {
  const document = parseDocument(text, file);
  if (!isDocument(document)) return { problems: document };
  const newer = newerVersion(document);
  if (newer !== undefined) throw newer;
  const parsed = configSchema.safeParse(document.value);
  if (!parsed.success) {
    return { problems: issueProblems(document, parsed.error.issues, configSchema) };
  }
  const built = buildConfig(document, parsed.data);
  return 'file' in built ? built : { problems: built };
}

function isDocument(found: Document | readonly Problem[]): found is Document {
  return 'file' in found;
}

/** A file of a later version is refused as such, not as a list of unknown keys. */
function newerVersion({ value, origin }: Document): BelayError | undefined {
  if (typeof value !== 'object' || value === null || !('version' in value)) return undefined;
  const { version } = value;
  if (typeof version !== 'number' || version <= 1) return undefined;
  return new BelayError(
    'ERR_CONFIG',
    `${origin(['version'])}: version ${version} is newer than this Belay`,
    {
      hint: 'update Belay',
    },
  );
}
