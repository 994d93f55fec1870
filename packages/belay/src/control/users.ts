// Who owns what when Belay is started as root: the daemon's user, the agents' user, and whether
// another uid can reach the programs that are to run as it.

import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { BelayError } from '../core/errors.ts';
import type { Owner } from './home.ts';

export const DAEMON_USER = 'belay';
export const AGENT_USER = 'belay-agent';

/** A system user of Belay's. Throws ERR_HOST with the line that makes it. */
export function systemUser(name: string): Owner {
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [user, , uid, gid] = line.split(':');
    if (user === name) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new BelayError('ERR_HOST', `started as root, and the user \`${name}\` does not exist`, {
    hint: `useradd --system --user-group --no-create-home --shell /usr/sbin/nologin ${name}`,
  });
}

const NO_GROUP = 65_534;

/** The group of an agent that becomes the owner of a workspace: never the one of root. */
export function groupFor(uid: number, found: number): number {
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [, , id, gid] = line.split(':');
    if (Number(id) === uid && id !== '' && Number(gid) > 0) return Number(gid);
  }
  return found === 0 ? NO_GROUP : found;
}

/** Throws ERR_HOST when a uid that owns nothing could not read `path`. */
export function requireReachable(path: string, what: string): void {
  for (let at = dirname(path); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) {
      throw new BelayError(
        'ERR_HOST',
        `${what} is under \`${at}\`, which other users cannot pass`,
        {
          hint: 'install Node and Belay where every user can read them, such as /usr/local',
        },
      );
    }
    if (at === '/') return;
  }
}
