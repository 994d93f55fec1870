// Which entry of a grant would allow a call: the narrowest that there is.

import { parseAllow } from '../config/allow.ts';
import { pushText } from '../config/allow-push.ts';
import { PRESETS } from '../config/presets.ts';
import type { EffectClass } from '../core/call.ts';
import type { CallHead } from '../core/entry.ts';
import { AGENT_BRANCHES, pushAction } from '../core/push.ts';
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
  readonly service?: CallHead['service'];
  readonly push?: CallHead['push'];
}

const routes = routeTable(PRESETS);

/** What a push needs beyond `entryFor`: refs outside the branches of agents, forced or deleted. */
export function pushEntriesFor({ push, port, ...head }: AskedHead): readonly string[] {
  if (push === undefined) return [];
  const { repository, refs } = push;
  return refs
    .filter(
      ({ change, ref }) => pushAction(change) !== 'git.push' || !ref.startsWith(AGENT_BRANCHES),
    )
    .map(({ change, ref }) =>
      pushText({
        action: pushAction(change),
        host: head.host as Host,
        port,
        repository,
        refs: ref,
      }),
    );
}

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
  if (code !== 'policy.no-permit') return null;
  const [entry = entryFor(head)] = pushEntriesFor(head);
  return `--allow ${entry}`;
}

/** With the values that presets ask for: which they were is not known. */
function queryOf({ host, queryKeys = [], service }: AskedHead): string {
  if (service !== undefined) return `service=${service}`;
  const wanted = PRESETS.flatMap((preset) => preset.routes)
    .filter((route) => route.host === host)
    .flatMap((route) => Object.entries(route.query ?? {}));
  return wanted
    .filter(([key]) => queryKeys.includes(key))
    .map(([key, value]) => `${key}=${value}`)
    .join('&');
}
