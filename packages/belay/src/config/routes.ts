// Routes that a configuration declares: calls of one kind to a service of its own, with a name that
// policies can ask for, members of the body that they can see, and what such a call taints a run with.

import { printable } from '../core/target.ts';
import { checkMethods, checkPaths, hostPortAt, type Report } from './checks.ts';
import type { FieldConfig, FieldType, RouteConfig } from './config.ts';
import type { RawConfig, RawRoute } from './schema.ts';

const MOST_ROUTES = 256;

export function buildRoutes(report: Report, raw: RawConfig['routes']): readonly RouteConfig[] {
  const entries = Object.entries(raw);
  if (entries.length > MOST_ROUTES) report(['routes'], `more than ${MOST_ROUTES} routes`);
  const types = new Map<string, FieldType>();
  return entries.slice(0, MOST_ROUTES).map(([name, route]) => {
    const path = ['routes', name];
    checkMethods(report, [...path, 'methods'], route.methods);
    checkPaths(report, [...path, 'paths'], route.paths);
    const fields = buildFields(route);
    for (const [field, { type }] of fields) {
      const other = types.get(field) ?? type;
      types.set(field, other);
      // A policy may be about all routes at once.
      if (other === type) continue;
      const message = `\`${printable(field)}\` is a ${other} in another route`;
      report([...path, 'fields', field], message, 'give one of the two another name');
    }
    return {
      name,
      ...hostPortAt(report, [...path, 'host'], route.host),
      methods: route.methods,
      paths: route.paths,
      fields,
      ...(route.taint === undefined ? {} : { taint: route.taint }),
    };
  });
}

function buildFields({ fields }: RawRoute): ReadonlyMap<string, FieldConfig> {
  return new Map(
    Object.entries(fields).map(([name, field]) => [
      name,
      typeof field === 'string' ? { type: field, at: [name] } : field,
    ]),
  );
}
