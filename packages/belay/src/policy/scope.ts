// Which policies can match a principal, an action and a resource, from the scopes in their heads.
// A slice may hold too many policies, never too few: a form that is not known always matches.

import type { EntityUidJson, PolicyJson } from '@cedar-policy/cedar-wasm/nodejs';

/** An entity with everything that it is in, itself first. */
export interface Ancestry {
  readonly type: string;
  has(type: string, id: string): boolean;
}

export function ancestry(type: string, ids: readonly (readonly [string, string])[]): Ancestry {
  const keys = new Set(ids.map(([of, id]) => `${of}::${id}`));
  return { type, has: (of, id) => keys.has(`${of}::${id}`) };
}

export interface Scopes {
  readonly principal: Ancestry;
  readonly action: Ancestry;
  readonly resource: Ancestry;
}

export function canMatch(policy: PolicyJson, scopes: Scopes): boolean {
  return (
    admits(policy.principal, scopes.principal) &&
    admits(policy.action, scopes.action) &&
    admits(policy.resource, scopes.resource)
  );
}

interface Constraint {
  readonly op: string;
  readonly entity?: EntityUidJson;
  readonly entities?: readonly EntityUidJson[];
  readonly entity_type?: string;
  readonly in?: { readonly entity?: EntityUidJson };
}

function admits(constraint: object, entity: Ancestry): boolean {
  const { op, entities, entity_type: type, ...rest } = constraint as Constraint;
  // `==` is taken as `in`: wider, and the engine draws the line.
  if (op === '==' || op === 'in') {
    const named = entities ?? (rest.entity === undefined ? undefined : [rest.entity]);
    return named === undefined || named.some((uid) => entity.has(typeOf(uid), idOf(uid)));
  }
  if (op === 'is') {
    if (type !== entity.type) return false;
    const within = rest.in?.entity;
    return within === undefined || entity.has(typeOf(within), idOf(within));
  }
  return true;
}

export function typeOf(uid: EntityUidJson): string {
  return '__entity' in uid ? uid.__entity.type : uid.type;
}

export function idOf(uid: EntityUidJson): string {
  return '__entity' in uid ? uid.__entity.id : uid.id;
}

/** Every host that a policy's scope names. */
export function scopeHosts({ resource }: PolicyJson): readonly string[] {
  const { entity, in: within } = resource as Constraint;
  return [entity, within?.entity].flatMap((uid) =>
    uid !== undefined && typeOf(uid) === 'Host' ? [idOf(uid)] : [],
  );
}
