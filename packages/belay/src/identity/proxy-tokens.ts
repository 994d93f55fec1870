// What lets an agent outside a sandbox use the explicit proxy as one run. A token is random, is kept
// only as its digest, and dies with its run, or after a time. It is good for one listener, which is in the
// digest. The run's name goes with it as the user, so that the comparison is with one digest, in
// constant time.

import { createHash, timingSafeEqual } from 'node:crypto';
import { type Clock, isRunId, type Random, type RunId } from '../core/ids.ts';

const TOKEN_BYTES = 32;
/** An agent cannot be given another while it runs: its grant ends no later. */
export const TOKEN_LIFE_MS = 12 * 60 * 60 * 1000;

export interface ProxyTokens {
  /** A new token for a run at the proxy on `host:port`; an earlier one is void. */
  issue(run: RunId, listener: string): string;
  revoke(run: RunId): void;
  /** The run that these credentials are of at this listener; null: none. */
  check(listener: string, user: string, password: string): RunId | null;
}

interface Issued {
  readonly digest: Buffer;
  readonly until: number;
}

export function createProxyTokens(random: Random, clock: Clock): ProxyTokens {
  const issued = new Map<RunId, Issued>();
  return {
    issue(run, listener) {
      const token = Buffer.from(random(TOKEN_BYTES)).toString('base64url');
      const digest = digestOf([token, run, listener]);
      issued.set(run, { digest, until: clock() + TOKEN_LIFE_MS });
      return token;
    },
    revoke: (run) => void issued.delete(run),
    check(listener, user, password) {
      if (!isRunId(user)) return null;
      const known = issued.get(user);
      if (known === undefined || clock() >= known.until) return null;
      const given = digestOf([password, user, listener]);
      return timingSafeEqual(known.digest, given) ? user : null;
    },
  };
}

function digestOf(parts: readonly string[]): Buffer {
  return createHash('sha256').update(JSON.stringify(parts)).digest();
}
