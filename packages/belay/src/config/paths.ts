// The files of a workspace that a configuration names: what the next run will be permitted and whom
// it trusts, which no agent may write; and the secrets, which no agent may read.

import { realpathSync } from 'node:fs';
import { relative, resolve, sep } from 'node:path';
import { type ConfigBundle, parseBundle } from './bundle.ts';
import { secretPath } from './secrets.ts';

export interface NamedPaths {
  /** Relative to the workspace: the policies' folder, authorities of upstreams. */
  readonly protect: readonly { readonly path: string; readonly kind: 'file' | 'dir' }[];
  /** Files of secrets, relative to the workspace. */
  readonly hide: readonly string[];
}

/** `workdir` is a real path; what lies outside it is not reached from a sandbox and left out. */
export function namedPaths(
  bundle: ConfigBundle,
  workdir: string,
  env: Readonly<Record<string, string | undefined>>,
): NamedPaths {
  const config = parseBundle(bundle);
  const within = (path: string): string | undefined => {
    const found = relative(workdir, path);
    return found === '' || found === '..' || found.startsWith(`..${sep}`) ? undefined : found;
  };
  const named = [
    ...(config.policyDirectory === undefined
      ? []
      : [{ path: config.policyDirectory, kind: 'dir' as const }]),
    ...[...config.upstreams.values()].flatMap(({ authorityFile }) =>
      authorityFile === undefined ? [] : [{ path: authorityFile, kind: 'file' as const }],
    ),
  ];
  const protect = named.flatMap(({ path, kind }) => {
    const inside = within(resolve(workdir, path));
    return inside === undefined ? [] : [{ path: inside, kind }];
  });
  const hide = config.credentials.flatMap(({ from }) => {
    if (from.kind !== 'file') return [];
    const path = secretPath(from.path, workdir, env);
    // As it is written, so that nothing else takes its place; and where a link outside leads.
    return [...new Set([path, realOf(path)].map(within))].filter((inside) => inside !== undefined);
  });
  return { protect, hide };
}

function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // there is nothing to hide yet
  }
}
