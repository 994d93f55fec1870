// What the fault programs write.

import type { Intent } from '../../src/core/entry.ts';
import type { CallId, RunId } from '../../src/core/ids.ts';

/** The least, so that segments change often. */
export const SEGMENT_BYTES = 128 * 1024;

export function intentOf(run: RunId, call: CallId): Intent {
  return {
    type: 'intent',
    run,
    call,
    kind: 'http',
    agent: 'claude',
    env: 'staging',
    mode: 'live',
    method: 'POST',
    scheme: 'https',
    host: 'api.example.test',
    port: 443,
    path: '/v1/messages',
    effect: 'write',
    reasons: ['method'],
    body: { kind: 'none' },
    policies: ['allow'],
    credentials: [],
    reserved: { calls: 1, bytes: 1024 },
  };
}
