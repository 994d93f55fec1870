// The hosts of a run whose repositories git may want to reach by ssh: those that its grant names.

import type { AllowEntry } from '../config/allow.ts';
import type { Config } from '../config/config.ts';
import { selectGrant } from '../config/select.ts';
import { isAddress } from '../core/target.ts';
import { allowedTo } from '../policy/for-run.ts';
import type { GitHost } from '../sandbox/git-config.ts';
import type { OpenedRun } from './protocol.ts';

/** `allow`: for this run only. Throws ERR_USAGE for one of these that is no entry. */
export function gitHosts(
  config: Config,
  { agent, environment }: OpenedRun,
  allow: readonly string[],
): readonly GitHost[] {
  const selected = selectGrant(config, { agent, environment });
  return allowedTo(selected, allow).flatMap(hostsOf);
}

function hostsOf(entry: AllowEntry): readonly GitHost[] {
  switch (entry.kind) {
    case 'push':
      return [entry];
    case 'host': {
      const { host } = entry;
      // Git's HTTPS is not on the port of plain HTTP.
      const ports = isAddress(host) ? [] : entry.ports.filter((port) => port !== 80);
      return ports.map((port) => ({ host, port }));
    }
    case 'preset':
    case 'tunnel':
      return [];
  }
}
