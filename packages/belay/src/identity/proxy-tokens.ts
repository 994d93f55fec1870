// What lets an agent outside a sandbox use the explicit proxy as one run. A token is random, is kept
// only as its digest, and dies with its run, or after a time. It is good for one listener and one
// environment: both are in the digest. The run's name goes with it as the user, so that the
// comparison is with one digest, in constant time.

import { createHash, timingSafeEqual } from 'node:crypto';
import { type Clock, isRunId, type Random, type RunId } from '../core/ids.ts';

const TOKEN_BYTES = 32;
/** An agent cannot be given another while it runs. */
const LONGEST_MS = 12 * 60 * 60 * 1000;

/** What a token is bound to, beside its run. */
export interface TokenScope {
  readonly environment: string;
  /** `host:port` of the proxy that it is for. */
  readonly listener: string;
}

export interface ProxyTokens {
  /** A new token for a run; an earlier one is void. */
  issue(run: RunId, scope: TokenScope): string;
  revoke(run: RunId): void;
  /** The run that these credentials are of at this listener; null: none. */
  check(listener: string, user: string, password: string): RunId | null;
}

interface Issued {
  readonly digest: Buffer;
  readonly environment: string;
  readonly until: number;
}

export function createProxyTokens(random: Random, clock: Clock): ProxyTokens {
  const issued = new Map<RunId, Issued>();
  return {
    issue(run, { environment, listener }) {
      const token = Buffer.from(random(TOKEN_BYTES)).toString('base64url');
      const digest = digestOf([token, run, environment, listener]);
      issued.set(run, { digest, environment, until: clock() + LONGEST_MS });
      return token;
    },
    revoke: (run) => void issued.delete(run),
    check(listener, user, password) {
      if (!isRunId(user)) return null;
      const known = issued.get(user);
      if (known === undefined || clock() >= known.until) return null;
      const given = digestOf([password, user, known.environment, listener]);
      return timingSafeEqual(known.digest, given) ? user : null;
    },
  };
}

function digestOf(parts: readonly string[]): Buffer {
  return createHash('sha256').update(JSON.stringify(parts)).digest();
}
