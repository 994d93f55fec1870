// Decisions, kept under a key that holds everything that they depend on, and bounded.

import type { Fields } from './declared.ts';
import type { Reads } from './reads.ts';
import type { PolicyRequest, PushContext } from './request.ts';

const ATTRIBUTES: readonly (keyof PushContext)[] = [
  'method',
  'scheme',
  'port',
  'path',
  'queryKeys',
  'bodyKind',
  'sizeBytes',
  'contentType',
  'kind',
  'shadow',
  'routes',
  'template',
  'fields',
  'taint',
  'runCalls',
  'hostCalls',
  'repository',
  'ref',
  'old',
  'new',
  'change',
];

/**
 * Principal, environment, action, resource, and the value of every context attribute that is read.
 * INVARIANT: two requests with one key get one decision from the policies whose reads these are.
 */
export function decisionKey(request: PolicyRequest, reads: Reads): string {
  const { agent, environment, action, host, context } = request;
  let key = part(agent) + part(environment) + part(action) + part(host);
  for (const attribute of ATTRIBUTES) {
    if (reads !== 'all' && !reads.has(attribute)) continue;
    const value = (context as Partial<PushContext>)[attribute];
    if (Array.isArray(value)) key += `${value.length}[${value.toSorted().map(part).join('')}`;
    else if (typeof value === 'object') key += fieldsPart(value as Fields);
    else key += value === undefined ? '-' : part(String(value));
  }
  return key;
}

function fieldsPart(fields: Fields): string {
  const entries = Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1));
  return part(JSON.stringify(entries));
}

/** With its length in front, so that no two lists of parts read the same. */
export function part(text: string): string {
  return `${text.length}:${text}`;
}

/** A longer key is not worth its memory; such a request is decided each time. */
const MOST_KEY_CHARACTERS = 1024;

/** Remembers what `evaluate` said under `keyOf`; forgets the least recently used first. */
export function remembered<In, Out>(
  mostEntries: number,
  keyOf: (input: In) => string,
  evaluate: (input: In) => Out,
): (input: In) => Out {
  const known = new Map<string, Out>();
  return (input) => {
    const key = keyOf(input);
    const found = known.get(key);
    if (found !== undefined) {
      // A Map keeps the order of insertion; moving costs only when the bound is near.
      if (known.size > mostEntries / 2) {
        known.delete(key);
        known.set(key, found);
      }
      return found;
    }
    const made = evaluate(input);
    if (key.length > MOST_KEY_CHARACTERS) return made;
    if (known.size >= mostEntries) known.delete(known.keys().next().value as string);
    known.set(key, made);
    return made;
  };
}
