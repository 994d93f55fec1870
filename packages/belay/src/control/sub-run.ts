// What a sub-run has to share with its parent for its grant to be comparable at all: configuration,
// environment and kind of containment; and what of the host it may see, which is no more than the
// parent does.

import { BelayError } from '../core/errors.ts';
import type { RunId } from '../core/ids.ts';
import type { DaemonRun } from './daemon-run.ts';
import { holds } from './open-paths.ts';
import type { OpenRun } from './protocol.ts';

/** The parent that a request names. Throws ERR_NOT_FOUND, or ERR_USAGE for what it must not have. */
export function parentFor(
  request: OpenRun & { readonly parent: RunId },
  configDigest: string,
  runOf: (id: RunId) => DaemonRun | undefined,
): DaemonRun {
  const parent = runOf(request.parent);
  if (parent === undefined) {
    throw new BelayError('ERR_NOT_FOUND', `no run \`${request.parent}\` is open`);
  }
  const refuse = (why: string): never => {
    throw new BelayError('ERR_USAGE', `no sub-run of \`${parent.id}\`: ${why}`);
  };
  if (!parent.guarded || parent.state === 'stopped') refuse('it is not running');
  if (parent.configDigest !== configDigest) refuse('its configuration is another');
  if (parent.containment === 'sandbox' && request.containment !== 'sandbox') {
    refuse('it is in a sandbox, and its sub-runs are too');
  }
  const { workdir, paths } = parent;
  const written = [workdir, ...paths.write];
  const seen = [...written, ...paths.read];
  const inOne = (folders: readonly string[], path: string): boolean =>
    folders.some((folder) => holds(folder, path));
  for (const path of [request.workdir, ...request.paths.write]) {
    if (!inOne(written, path)) refuse(`it may not write \`${path}\``);
  }
  for (const path of request.paths.read) {
    if (!inOne(seen, path)) refuse(`it may not read \`${path}\``);
  }
  return parent;
}
