// Keys of the installation: made once, readable by the daemon alone, never seen by a sandbox.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { asBelayError } from '../core/errors.ts';
import type { Home } from './home.ts';

/** What `make` made when it was first asked for. Throws ERR_HOME. */
export function keyFile(home: Home, name: string, make: () => string | Buffer): Buffer {
  const path = join(home.keys, name);
  try {
    if (!existsSync(path)) {
      // CRASH: a half-written key is under another name; the next start makes a new one.
      writeFileSync(`${path}.new`, make(), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    }
    return readFileSync(path);
  } catch (error) {
    throw asBelayError('ERR_HOME', `cannot prepare the key \`${name}\``, error);
  }
}
