// The installation's certificate authority: made once, its key readable by the daemon alone. The key
// never leaves this host and signs nothing but leaves for intercepted hosts.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { asBelayError } from '../core/errors.ts';
import type { Clock } from '../core/ids.ts';
import { type Authority, createAuthority, parseAuthority } from '../gateway/listen/x509.ts';
import type { Home } from './home.ts';

const RENEW_BEFORE_MS = 30 * 86_400_000;

export function loadAuthority(home: Home, clock: Clock): Authority {
  const path = join(home.keys, 'authority.pem');
  try {
    const found = existsSync(path) ? parseAuthority(readFileSync(path, 'utf8')) : undefined;
    if (found !== undefined && found.expiresAt - clock() > RENEW_BEFORE_MS) {
      return found;
    }
    const made = createAuthority(clock());
    // CRASH: a half-written key is under another name; the next start makes a new one.
    writeFileSync(`${path}.new`, made.pem, { mode: 0o600 });
    renameSync(`${path}.new`, path);
    return made;
  } catch (error) {
    throw asBelayError('ERR_HOME', 'cannot prepare the certificate authority', error);
  }
}
