// What lets an agent outside a sandbox use the explicit proxy as one run. A token is random, is kept
// only as its digest, and dies with its run. The run's name goes with it as the user, so that the
// comparison is with one digest, in constant time.

import { createHash, timingSafeEqual } from 'node:crypto';
import { isRunId, type Random, type RunId } from '../core/ids.ts';

const TOKEN_BYTES = 32;

export interface ProxyTokens {
  /** A new token for a run; an earlier one is void. */
  issue(run: RunId): string;
  revoke(run: RunId): void;
  /** The run that these credentials are of; null: none. */
  check(user: string, password: string): RunId | null;
}

export function createProxyTokens(random: Random): ProxyTokens {
  const digests = new Map<RunId, Buffer>();
  return {
    issue(run) {
      const token = Buffer.from(random(TOKEN_BYTES)).toString('base64url');
      digests.set(run, digestOf(token));
      return token;
    },
    revoke: (run) => void digests.delete(run),
    check(user, password) {
      if (!isRunId(user)) return null;
      const digest = digests.get(user);
      const given = digestOf(password);
      return digest !== undefined && timingSafeEqual(digest, given) ? user : null;
    },
  };
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
