// Which preset routes a call matches. Cedar's `like` knows one wildcard that crosses slashes; a
// route's `*` does not. So the exact match is made here, and a policy asks for its result:
// `context.routes.contains("npm-read/0")`. A preset's route is HTTPS on port 443.

import { type Matcher, pathMatcher } from '../config/glob.ts';
import type { Preset, PresetRoute } from '../config/presets.ts';
import type { Target } from '../core/target.ts';

/** A route of a preset, ready to match. */
export interface Route {
  /** `npm-read/0` */
  readonly id: string;
  readonly preset: string;
  readonly route: PresetRoute;
  /** The path pattern that fits. */
  readonly template: string;
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
      const byPath = route.paths.map((template) => ({
        matches: pathMatcher(template),
        found: { ...entry, template },
      }));
      const compiled: Compiled = { route, byPath };
      if (route.host.startsWith('*.')) below.push(compiled);
      else exact.set(route.host, [...(exact.get(route.host) ?? []), compiled]);
    }
  }
  return (head) => {
    const { scheme, port, host } = head.target;
    if (scheme !== 'https' || port !== 443) return NONE;
    const here = exact.get(host);
    const wild = below.filter(({ route }) => host.endsWith(route.host.slice(1)));
    if (here === undefined && wild.length === 0) return NONE;
    return [...(here ?? []), ...wild].flatMap((route) => matchOf(route, head) ?? []);
  };
}

/** What is found where a path pattern matches. */
export interface PathMatch<T> {
  readonly matches: Matcher;
  readonly found: T;
}

export function firstMatch<T>(patterns: readonly PathMatch<T>[], path: string): T | undefined {
  return patterns.find(({ matches }) => matches(path))?.found;
}

interface Compiled {
  readonly route: PresetRoute;
  readonly byPath: readonly PathMatch<Route>[];
}

function matchOf(
  { route: { methods, query }, byPath }: Compiled,
  head: RouteHead,
): Route | undefined {
  if (!methods.includes(head.method)) return undefined;
  if (query !== undefined && !queryHas(head.query, query)) return undefined;
  return firstMatch(byPath, head.path);
}

function queryHas(text: string, wanted: Readonly<Record<string, string>>): boolean {
  const found = new URLSearchParams(text);
  return Object.entries(wanted).every(([key, value]) => {
    const values = found.getAll(key);
    return values.length === 1 && values[0] === value;
  });
}
