// What a sub-run has to share with its parent for its grant to be comparable at all: configuration,
// environment and kind of containment; and what of the host it may see, which is no more than the
// parent does: the same workspace, or one that the parent was opened, and paths that it was opened.

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
  // The parent holds them, or could not; either way there is none for another.
  if (request.ports.length > 0) refuse('a sub-run publishes no port');
  const { login } = request;
  if (login && !(login.agent === parent.login?.agent && login.file === parent.login.file)) {
    refuse(`it does not use the login in \`${login.file}\``);
  }
  const { workdir, paths } = parent;
  const moved = request.workdir !== workdir;
  if (moved && !paths.write.includes(request.workdir)) {
    refuse(`it may not work in \`${request.workdir}\``);
  }
  // INVARIANT: what covers names of a workspace is in place only where that is the workspace: nobody
  // gets there by way of another, or by the name of what lies in it.
  const opened = (folders: readonly string[], path: string): boolean =>
    folders.some((folder) => holds(folder, path)) &&
    !holds(workdir, path) &&
    !(moved && holds(path, workdir));
  for (const path of [...(moved ? [request.workdir] : []), ...request.paths.write]) {
    if (!opened(paths.write, path)) refuse(`it may not write \`${path}\``);
  }
  for (const path of request.paths.read) {
    if (!opened([...paths.write, ...paths.read], path)) refuse(`it may not read \`${path}\``);
  }
  return parent;
}
