// What agents hold in the place of credentials. It stays the same for an agent in its environment and
// workspace, since some ask their user for each new key, and is another everywhere else. Nobody can
// make one without the installation's key; it opens nothing in any case.

import { createHmac, randomBytes } from 'node:crypto';
import type { Home } from './home.ts';
import { keyFile } from './key-file.ts';

export interface PlaceholderScope {
  readonly agent: string;
  readonly environment: string;
  /** The workspace's real path. */
  readonly workdir: string;
}

/** By a scope and a credential's name, and of several with one name by their values. */
export type Placeholders = (scope: PlaceholderScope, credential: string, value?: string) => string;

const KEY_BYTES = 32;

/** Throws ERR_HOME. */
export function loadPlaceholders(home: Home): Placeholders {
  const key = keyFile(home, 'placeholder-key', () => randomBytes(KEY_BYTES));
  return ({ agent, environment, workdir }, credential, value) => {
    const one = value === undefined ? [] : [value];
    const text = JSON.stringify([agent, environment, workdir, credential, ...one]);
    return `blp-${credential}-${createHmac('sha256', key).update(text).digest('hex').slice(0, 32)}`;
  };
}
