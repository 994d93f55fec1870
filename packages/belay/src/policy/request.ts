// A call as Cedar sees it: principal, action, resource and context. Nothing of a query's values is in
// it, and of a body nothing but the fields that the configuration declares.

import type { CedarValueJson, EntityUid } from '@cedar-policy/cedar-wasm/nodejs';
import type { EffectClass } from '../core/call.ts';
import { type PushAction, pushAction, type RefChange } from '../core/push.ts';
import { type Host, isAddress, type Target, type Tunnel } from '../core/target.ts';
import type { CallFacts, Classification } from './classify.ts';
import type { DeclaredRoute, Fields } from './declared.ts';
import type { CedarRequest } from './engine.ts';
import type { Route } from './routes.ts';

export interface HttpContext {
  readonly method: string;
  readonly scheme: string;
  readonly port: number;
  readonly path: string;
  readonly queryKeys: readonly string[];
  readonly bodyKind: string;
  readonly sizeBytes?: number;
  readonly contentType: string;
  readonly kind: string;
  readonly shadow: boolean;
  readonly routes: readonly string[];
  readonly template: string;
  readonly fields: Fields;
  readonly taint: readonly string[];
  readonly runCalls: number;
  readonly hostCalls: number;
}

/** One ref of a push. */
export interface PushContext extends HttpContext {
  readonly repository: string;
  readonly ref: string;
  readonly old: string;
  readonly new: string;
  readonly change: string;
}

export type Action = `http.${EffectClass}` | `tunnel.${Tunnel}` | PushAction;

export interface PolicyRequest {
  readonly agent: string;
  readonly environment: string;
  /** In the group that its first word names. */
  readonly action: Action;
  readonly host: Host;
  readonly context: HttpContext | PushContext;
}

export interface Who {
  readonly agent: string;
  readonly environment: string;
  readonly shadow: boolean;
}

/** What a run was permitted before a call, and tainted with. */
export interface Before {
  readonly runCalls: number;
  /** To the host of the call. */
  readonly hostCalls: number;
  readonly taint: readonly string[];
}

export const NOTHING_BEFORE: Before = { runCalls: 0, hostCalls: 0, taint: [] };

/** Which routes a call takes, and what they show of its body. */
export interface Taken {
  readonly presets: readonly Route[];
  readonly declared: readonly DeclaredRoute[];
  readonly fields: Fields;
}

export function requestOf(
  call: CallFacts,
  { effect, kind }: Classification,
  who: Who,
  { presets, declared, fields }: Taken,
  { runCalls, hostCalls, taint }: Before = NOTHING_BEFORE,
): PolicyRequest {
  const sizeBytes = sizeOf(call.body);
  return {
    agent: who.agent,
    environment: who.environment,
    action: actionOf(call.target, effect),
    host: call.target.host,
    context: {
      method: call.method,
      scheme: call.target.scheme,
      port: call.target.port,
      path: call.path,
      queryKeys: queryKeys(call.query),
      bodyKind: call.body.kind,
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
      contentType: typeOf(call),
      kind,
      shadow: who.shadow,
      routes: [...declared.map(({ route }) => route.name), ...presets.map(({ id }) => id)],
      template: (declared[0] ?? presets[0])?.template ?? '',
      fields,
      taint,
      runCalls,
      hostCalls,
    },
  };
}

/** The same call, asked for what it does to one ref. */
export function pushRequest(
  request: PolicyRequest,
  repository: string,
  { ref, old = '', new: id = '', change }: RefChange,
): PolicyRequest {
  return {
    ...request,
    action: pushAction(change),
    context: { ...request.context, repository, ref, old, new: id, change },
  };
}

function sizeOf(body: CallFacts['body']): number | undefined {
  switch (body.kind) {
    case 'none':
      return 0;
    case 'buffered':
      return body.bytes?.length;
    case 'streamed':
      return undefined;
  }
}

/** In lower case, without parameters; empty when nothing says it. */
function typeOf({ headers = [] }: CallFacts): string {
  const field = headers.find(([name]) => name === 'content-type')?.[1] ?? '';
  const end = field.indexOf(';');
  return (end < 0 ? field : field.slice(0, end)).trim().toLowerCase();
}

const NO_KEYS: readonly string[] = [];

/** All of them: a rule about one key must not be drowned by many others. */
function queryKeys(query: string): readonly string[] {
  if (query === '') return NO_KEYS;
  return [...new Set(new URLSearchParams(query).keys())].sort();
}

function actionOf({ scheme }: Target, effect: EffectClass): Action {
  return scheme === 'tls' || scheme === 'tcp' ? `tunnel.${scheme}` : `http.${effect}`;
}

/** The group that a policy may name instead of the action. */
export function groupOf(action: Action): string {
  return action.slice(0, action.indexOf('.'));
}

/** The host and every domain above it; an address is below nothing. */
export function hostChain(host: Host): readonly string[] {
  if (isAddress(host)) return [host];
  const chain: string[] = [host];
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
    chain.push(host.slice(dot + 1));
  }
  return chain;
}

const uid = (type: string, id: string): EntityUid => ({ type, id });

export function cedarRequest({
  agent,
  environment,
  action: name,
  host,
  context,
}: PolicyRequest): CedarRequest {
  const principal = uid('Agent', agent);
  const action = uid('Action', name);
  const resource = uid('Host', host);
  const [, ...above] = hostChain(host);
  return {
    principal,
    action,
    resource,
    context: context as unknown as Record<string, CedarValueJson>,
    entities: [
      { uid: principal, attrs: {}, parents: [uid('Environment', environment)] },
      { uid: action, attrs: {}, parents: [uid('Action', groupOf(name))] },
      { uid: resource, attrs: { name: host }, parents: above.map((domain) => uid('Host', domain)) },
    ],
  };
}
