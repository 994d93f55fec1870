// The routes that a configuration declares, as policy asks for them: which of them a call takes, which
// members of its body they show to policy, and what it taints its run with. What is declared of a body
// is read from the bytes that are sent, or the call is denied: a policy that speaks of an amount must
// not be passed by one that is written another way.

import { bodyValue, fold } from '../config/body.ts';
import type { FieldConfig, FieldType, RouteConfig } from '../config/config.ts';
import { pathMatcher } from '../config/glob.ts';
import type { CallFacts } from './classify.ts';
import { firstMatch, type PathMatch } from './routes.ts';

export type FieldValue = number | string | boolean;
export type Fields = Readonly<Record<string, FieldValue>>;

export interface DeclaredRoute {
  readonly route: RouteConfig;
  /** The path pattern that fits. */
  readonly template: string;
}

/** All that a call takes, in the order of their declaration. */
export type DeclaredRoutes = (call: CallFacts) => readonly DeclaredRoute[];

const NONE: readonly DeclaredRoute[] = [];

export function declaredRoutes(routes: readonly RouteConfig[]): DeclaredRoutes {
  if (routes.length === 0) return () => NONE;
  const compiled = routes.map((route) => ({
    route,
    byPath: route.paths.map(
      (template): PathMatch<DeclaredRoute> => ({
        matches: pathMatcher(template),
        found: { route, template },
      }),
    ),
  }));
  return ({ method, target: { host, port, scheme }, path }) =>
    compiled.flatMap(({ route, byPath }) => {
      if (route.host !== host || route.port !== port || !route.methods.includes(method)) return [];
      if (scheme !== 'https' && (scheme !== 'http' || port === 443)) return [];
      return firstMatch(byPath, path) ?? [];
    });
}

export type ReadFields =
  | { readonly kind: 'fields'; readonly fields: Fields }
  | { readonly kind: 'unreadable'; readonly reason: string };

const NO_FIELDS: ReadFields = { kind: 'fields', fields: {} };

/** A member that is absent or null is absent; so are all of a call without a body. */
export function readFields(call: CallFacts, declared: readonly DeclaredRoute[]): ReadFields {
  const asking = declared.filter(({ route }) => route.fields.size > 0);
  if (asking.length === 0 || call.body.kind === 'none') return NO_FIELDS;
  const unreadable = ({ route }: DeclaredRoute, why: string): ReadFields => ({
    kind: 'unreadable',
    reason: `the body is none for the route \`${route.name}\`: ${why}`,
  });
  const body = bodyValue(call);
  const fields: Record<string, FieldValue> = {};
  for (const one of asking) {
    if (body.kind === 'unread') return unreadable(one, body.why);
    for (const [name, field] of one.route.fields) {
      const found = memberAt(body.value, field.at);
      if (found === undefined) continue;
      const value = fieldValue(found, field.type, body.written);
      if (value === undefined) return unreadable(one, `\`${name}\` is not ${A_TYPE[field.type]}`);
      if (Object.hasOwn(fields, name) && fields[name] !== value) {
        return unreadable(one, `\`${name}\` is another in another route`);
      }
      fields[name] = value;
    }
  }
  return { kind: 'fields', fields };
}

/** A step into what holds no members, or one that differs by case alone, leads to what has no type. */
const NO_MEMBER = Symbol('no member');

function memberAt(value: unknown, at: FieldConfig['at']): unknown {
  let here = value;
  for (const key of at) {
    if (typeof here !== 'object' || here === null || Array.isArray(here)) return NO_MEMBER;
    if (!Object.hasOwn(here, key)) {
      const alike = Object.keys(here).some((other) => fold(other) === fold(key));
      return alike ? NO_MEMBER : undefined;
    }
    here = (here as Readonly<Record<string, unknown>>)[key] ?? undefined;
    if (here === undefined) return undefined;
  }
  return here;
}

const A_TYPE: Readonly<Record<FieldType, string>> = {
  long: 'an integer',
  string: 'a text',
  boolean: 'true or false',
};

function fieldValue(
  found: unknown,
  type: FieldType,
  written: 'json' | 'form',
): FieldValue | undefined {
  switch (type) {
    case 'long':
      return typeof found === 'number' && Number.isSafeInteger(found) ? found : undefined;
    case 'string':
      // A form says nothing of types: its plain integers are texts, too.
      if (written === 'form' && typeof found === 'number') return String(found);
      return typeof found === 'string' && found.isWellFormed() ? found : undefined;
    case 'boolean':
      if (written === 'form') return found === 'true' || (found === 'false' ? false : undefined);
      return typeof found === 'boolean' ? found : undefined;
  }
}
