// The flag that would have allowed a denied call: the narrowest that there is, or none when no flag
// can help.

import { parseAllow } from '../config/allow.ts';
import { PRESETS } from '../config/presets.ts';
import { type Host, hostPort, type Scheme } from '../core/target.ts';
import type { DenyCode } from '../core/verdict.ts';
import { routeTable } from './routes.ts';

/** What a denial in the ledger says of its call; the query's values are not in it. */
export interface DeniedHead {
  readonly code: DenyCode;
  readonly method: string;
  readonly scheme: Scheme;
  readonly host: string;
  readonly port: number;
  readonly path: string;
}

const routes = routeTable(PRESETS);

/** `--allow npm-read`, `--allow api.github.com`, `--allow example.com:8443`, or null. */
export function remedyFor(head: DeniedHead): string | null {
  if (head.code !== 'policy.no-permit') return null;
  const { method, path, scheme, port } = head;
  if (scheme === 'tls' || scheme === 'tcp') return `--allow ${scheme}://${hostPort(head)}`;
  const host = head.host as Host;
  const [route] = routes({ method, path, query: '', target: { scheme, host, port } });
  if (route !== undefined) return `--allow ${route.preset}`;
  const usual = port === 443 || port === 80;
  const bare = usual && parseAllow(head.host, '').kind === 'host';
  return `--allow ${bare ? head.host : hostPort(head)}`;
}
