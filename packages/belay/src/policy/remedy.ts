// Which entry of a grant would allow a call: the narrowest that there is.

import { parseAllow } from '../config/allow.ts';
import { PRESETS } from '../config/presets.ts';
import type { EffectClass } from '../core/call.ts';
import { type Host, hostPort, type Scheme } from '../core/target.ts';
import type { DenyCode } from '../core/verdict.ts';
import { byMethod } from './classify.ts';
import { routeTable } from './routes.ts';

/** What the ledger says of a call; the query's values are not in it. */
export interface AskedHead {
  readonly method: string;
  readonly scheme: Scheme;
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly queryKeys?: readonly string[];
  readonly effect: EffectClass;
}

const routes = routeTable(PRESETS);

/** `npm-read`, `api.github.com`, `example.com:8443`, `tcp://db.example:5432`. */
export function entryFor(head: AskedHead): string {
  const { method, path, scheme, port } = head;
  if (scheme === 'tls' || scheme === 'tcp') return `${scheme}://${hostPort(head)}`;
  const host = head.host as Host;
  const asked = { method, path, query: queryOf(head), target: { scheme, host, port } };
  // A call that was classed worse than its method says is permitted by no route.
  const plain = byMethod(head).effect === head.effect;
  const found = routes(asked).find(({ route }) => plain || route.effect === head.effect);
  if (found !== undefined) return found.preset;
  const usual = port === 443 || port === 80;
  return usual && parseAllow(head.host, '').kind === 'host' ? head.host : hostPort(head);
}

/** The flag with that entry, or null when no flag can help. */
export function remedyFor({
  code,
  ...head
}: AskedHead & { readonly code: DenyCode }): string | null {
  return code === 'policy.no-permit' ? `--allow ${entryFor(head)}` : null;
}

/** With the values that presets ask for: which they were is not known. */
function queryOf({ host, queryKeys = [] }: AskedHead): string {
  const wanted = PRESETS.flatMap((preset) => preset.routes)
    .filter((route) => route.host === host)
    .flatMap((route) => Object.entries(route.query ?? {}));
  return wanted
    .filter(([key]) => queryKeys.includes(key))
    .map(([key, value]) => `${key}=${value}`)
    .join('&');
}
