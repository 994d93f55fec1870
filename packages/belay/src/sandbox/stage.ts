// How a program gets from the launcher to where it may run. For an ordinary user that is nothing.
// For root: the sources are bound in a private mount namespace where another uid reaches them,
// whatever the modes of the folders above; a workspace of uid 0 with its ids exchanged; then root is
// given up for good, before any part of the sandbox runs. Cgroups are joined first.

import { relative } from 'node:path';
import type { At } from './bwrap.ts';
import { JOIN_AND_STAGE } from './perl.ts';

export interface Source {
  readonly path: string;
  /** Belongs to uid 0 and is to be written by the sandbox's uid. */
  readonly map?: boolean;
}

export interface Stage {
  readonly at: At;
  /** What comes before the program's own arguments. */
  readonly prefix: readonly string[];
}

export interface StageOptions {
  readonly sources: readonly Source[];
  readonly uid?: { readonly uid: number; readonly gid: number } | undefined;
  /** Folders that are joined first. */
  readonly cgroups: readonly string[];
}

export function createStage({ sources, uid: drop, cgroups }: StageOptions): Stage {
  const joinAndStage = (uid: number, gid: number, staged: readonly Source[]): readonly string[] => [
    ...['perl', '-e', JOIN_AND_STAGE, '--', String(uid), String(gid)],
    ...[String(cgroups.length), ...cgroups],
    ...[String(staged.length), ...staged.flatMap(({ path, map }) => [map ? 'map' : 'bind', path])],
  ];
  if (drop === undefined) {
    return {
      at: (root, path = root) => path,
      prefix: cgroups.length === 0 ? [] : joinAndStage(0, 0, []),
    };
  }
  const { uid, gid } = drop;
  const paths = sources.map(({ path }) => path);
  return {
    at(root, path = root) {
      const index = paths.indexOf(root);
      if (index < 0) throw new TypeError(`${root} is not staged`);
      const below = relative(root, path);
      return below === '' ? `/tmp/belay/${index}` : `/tmp/belay/${index}/${below}`;
    },
    prefix: [
      ...joinAndStage(uid, gid, sources),
      ...['setpriv', '--reuid', String(uid), '--regid', String(gid), '--clear-groups'],
      ...['--no-new-privs', '--'],
    ],
  };
}
