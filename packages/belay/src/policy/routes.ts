// Which preset routes a call matches. Cedar's `like` knows one wildcard that crosses slashes; a
// route's `*` does not. So the exact match is made here, and a policy asks for its result:
// `context.routes.contains("npm-read/0")`. A route is HTTPS on port 443.

import { anyPath, type Matcher } from '../config/glob.ts';
import type { Preset, PresetRoute } from '../config/presets.ts';
import type { Target } from '../core/target.ts';

/** A route of a preset, ready to match. */
export interface Route {
  /** `npm-read/0` */
  readonly id: string;
  readonly preset: string;
  readonly route: PresetRoute;
}

export interface RouteHead {
  readonly method: string;
  readonly target: Target;
  readonly path: string;
  readonly query: string;
}

export type RouteTable = (head: RouteHead) => readonly Route[];

const NONE: readonly Route[] = [];

export function routeId(preset: string, index: number): string {
  return `${preset}/${index}`;
}

export function routeTable(presets: readonly Preset[]): RouteTable {
  const exact = new Map<string, Compiled[]>();
  const below: Compiled[] = [];
  for (const preset of presets) {
    for (const [index, route] of preset.routes.entries()) {
      const entry = { id: routeId(preset.name, index), preset: preset.name, route };
      const compiled: Compiled = { entry, path: anyPath(route.paths) };
      if (route.host.startsWith('*.')) below.push(compiled);
      else exact.set(route.host, [...(exact.get(route.host) ?? []), compiled]);
    }
  }
  return (head) => {
    const { scheme, port, host } = head.target;
    if (scheme !== 'https' || port !== 443) return NONE;
    const here = exact.get(host);
    const wild = below.filter(({ entry }) => host.endsWith(entry.route.host.slice(1)));
    if (here === undefined && wild.length === 0) return NONE;
    return [...(here ?? []), ...wild]
      .filter((route) => matches(route, head))
      .map(({ entry }) => entry);
  };
}

interface Compiled {
  readonly entry: Route;
  readonly path: Matcher;
}

function matches({ entry, path }: Compiled, head: RouteHead): boolean {
  const { methods, query } = entry.route;
  if (!methods.includes(head.method) || !path(head.path)) return false;
  return query === undefined || queryHas(head.query, query);
}

function queryHas(text: string, wanted: Readonly<Record<string, string>>): boolean {
  const found = new URLSearchParams(text);
  return Object.entries(wanted).every(([key, value]) => {
    const values = found.getAll(key);
    return values.length === 1 && values[0] === value;
  });
}
