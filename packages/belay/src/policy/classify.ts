// What a call would do: read, write or irreversible, and why we think so. Unknown is a write. A
// preset's route says more than a method, but only within a preset that the run was granted.

import type { Call, CallKind, EffectClass } from '../core/call.ts';
import type { RefChange } from '../core/push.ts';
import type { ModelDialect } from '../core/verdict.ts';
import type { Route, RouteTable } from './routes.ts';

export type CallFacts = Pick<Call, 'method' | 'target' | 'path' | 'query' | 'kind' | 'push'> & {
  readonly body: { readonly kind: Call['body']['kind']; readonly bytes?: Uint8Array };
  /** Absent: not known. */
  readonly headers?: Call['headers'];
};

export interface Classification {
  readonly effect: EffectClass;
  readonly kind: CallKind;
  readonly reasons: readonly string[];
  /** Of a model call: the shape of its provider's errors. */
  readonly model?: ModelDialect;
}

/** `granted` are the names of the presets that the run was granted. */
export function classify(
  call: CallFacts,
  routes: RouteTable,
  granted: ReadonlySet<string>,
): Classification {
  if (call.kind === 'websocket')
    return { effect: 'write', kind: call.kind, reasons: ['a WebSocket'] };
  if (call.kind === 'tunnel') return { effect: 'write', kind: call.kind, reasons: ['a tunnel'] };
  const matching = routes(call);
  const model = matching.find(({ route }) => route.model !== undefined)?.route.model;
  const as = model === undefined ? HTTP : ({ kind: 'llm', model } as const);
  const plain = byMethod(call);
  // A server may act on another method than the one on the request line, or on a body where none
  // belongs; then no rule that was written for that line holds, and only what is worse counts.
  const odd = methodOverride(call) ?? bodyOnRead(call);
  if (odd !== undefined) {
    const effect = plain.effect === 'irreversible' ? 'irreversible' : 'write';
    return { ...as, effect, reasons: [`method ${call.method}`, odd] };
  }
  if (call.push !== undefined) {
    const { effect, reasons } = ofPush(call.push);
    return { ...as, effect: plain.effect === 'irreversible' ? plain.effect : effect, reasons };
  }
  const worst = worstOf(matching.filter(({ preset }) => granted.has(preset)));
  if (worst !== undefined) {
    const { effect, reason } = worst.route;
    return { ...as, effect, reasons: [reason, `route ${worst.id}`] };
  }
  return { ...as, ...plain };
}

const HTTP = { kind: 'http' } as const;

/** What a method says by itself. */
export function byMethod({ method }: Pick<CallFacts, 'method'>): Omit<Classification, 'kind'> {
  const reasons = [`method ${method}`];
  switch (method) {
    case 'GET':
    case 'HEAD':
    case 'OPTIONS':
      return { effect: 'read', reasons };
    case 'DELETE':
      return { effect: 'irreversible', reasons };
    default:
      return { effect: 'write', reasons };
  }
}

const IRREVERSIBLE: Partial<Record<RefChange['change'], string>> = {
  unproven: 'a ref whose new commit is not shown to follow the old one',
  delete: 'a deleted ref',
};

/** A commit that no ref leads to any more is lost. */
function ofPush(push: NonNullable<CallFacts['push']>): Omit<Classification, 'kind'> {
  if (push.kind === 'unreadable') return { effect: 'irreversible', reasons: [push.reason] };
  const grave = new Set(push.refs.flatMap(({ change }) => IRREVERSIBLE[change] ?? []));
  const effect = grave.size === 0 ? 'write' : 'irreversible';
  return { effect, reasons: ['a git push', ...grave] };
}

function bodyOnRead({ method, body }: CallFacts): string | undefined {
  const bodiless = method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
  return bodiless && body.kind !== 'none' ? 'a body where none belongs' : undefined;
}

export const SEVERITY: Readonly<Record<EffectClass, number>> = {
  read: 0,
  write: 1,
  irreversible: 2,
};

/** When routes disagree, the gravest effect counts. */
function worstOf(routes: readonly Route[]): Route | undefined {
  return routes.reduce<Route | undefined>(
    (worst, next) =>
      worst === undefined || SEVERITY[next.route.effect] > SEVERITY[worst.route.effect]
        ? next
        : worst,
    undefined,
  );
}

/** The fields of that kind are refused by the gateway; a key may as well mean nothing. */
function methodOverride({ query }: CallFacts): string | undefined {
  if (query.includes('_method') && new URLSearchParams(query).has('_method'))
    return 'query key _method';
  return undefined;
}
