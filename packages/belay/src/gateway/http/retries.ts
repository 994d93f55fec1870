// Recognises a call that repeats an earlier one: same run, method, target, path, query and body
// digest within ten minutes. Bounded; what falls out is a call like any other.

import { hash } from 'node:crypto';
import type { CallBody } from '../../core/call.ts';
import type { CallId } from '../../core/ids.ts';
import type { Target } from '../../core/target.ts';

const WINDOW_MS = 600_000;
const MAX_CALLS = 1024;
/** Longer keys are kept as digests. */
const MAX_KEY = 256;

export interface Retries {
  /** Notes a call, and returns the one that it repeats. */
  note(
    id: CallId,
    nowMs: number,
    method: string,
    target: Target,
    pathAndQuery: string,
    body: CallBody,
  ): CallId | undefined;
}

export function createRetries(): Retries {
  const calls = new Map<string, { readonly id: CallId; readonly at: number }>();
  return {
    note(id, nowMs, method, { scheme, host, port }, pathAndQuery, body) {
      // A streamed body has no digest yet, so nothing can be said about it.
      if (body.kind === 'streamed') return undefined;
      const digest = body.kind === 'buffered' ? body.sha256 : '';
      let key = `${method} ${scheme} ${host} ${port} ${pathAndQuery} ${digest}`;
      if (key.length > MAX_KEY) key = hash('sha256', key);
      const earlier = calls.get(key);
      // The order of insertion is the order of age: the oldest entry is the first.
      if (earlier !== undefined) calls.delete(key);
      else if (calls.size >= MAX_CALLS) calls.delete(calls.keys().next().value as string);
      calls.set(key, { id, at: nowMs });
      return earlier !== undefined && nowMs - earlier.at <= WINDOW_MS ? earlier.id : undefined;
    },
  };
}
