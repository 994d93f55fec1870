// Where an agent works and as whom: the workspace, the uid that goes with it, its home, and, for
// root, the handing over of the run's socket.

import { createHash } from 'node:crypto';
import { lchownSync, lstatSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { asBelayError, BelayError } from '../core/errors.ts';
import { fileId } from '../sandbox/inside.ts';
import { type Home, handOver, type Owner, ROOT } from './home.ts';
import { holds, stateOf } from './open-paths.ts';
import type { OpenedRun } from './protocol.ts';
import { AGENT_USER, groupFor, systemUser } from './users.ts';

export interface Workdir {
  readonly path: string;
  /** Which folder it was when it was judged. */
  readonly id: string;
  /** The uid that the agent gets; absent: the caller's own. */
  readonly agent?: Owner;
  readonly idmap: boolean;
}

/** The workspace, resolved once, and the uid that goes with it. Uid 0 never enters a sandbox. */
export function openWorkdir(named: string, home: Home): Workdir {
  let path: string;
  try {
    path = realpathSync(named);
  } catch (error) {
    throw asBelayError('ERR_USAGE', `the workspace \`${named}\` cannot be used`, error);
  }
  const found = statSync(path);
  const id = fileId(statSync(path, { bigint: true }));
  if (!found.isDirectory()) throw new BelayError('ERR_USAGE', `\`${path}\` is not a folder`);
  if (path === '/' || path === realpathSync(process.env.HOME ?? '/')) {
    throw new BelayError('ERR_USAGE', `\`${path}\` is too wide for a workspace`, {
      hint: 'name a project folder with --workdir',
    });
  }
  if (holds(stateOf(home), path)) {
    throw new BelayError(
      'ERR_USAGE',
      `\`${path}\` is not opened to an agent: Belay's own state is there`,
    );
  }
  if (process.getuid?.() !== 0) return { path, id, idmap: false };
  if (found.uid !== 0) {
    const agent = { uid: found.uid, gid: groupFor(found.uid, found.gid) };
    return { path, id, agent, idmap: false };
  }
  return { path, id, agent: systemUser(AGENT_USER), idmap: true };
}

/**
 * Root only: holds the run's folder, in which nobody else then makes an entry, and passes its socket
 * to the uid that the bridge gets. What is returned gives the folder back.
 */
export function holdRunFolder(path: string, agent: Owner): Disposable {
  const { uid, gid } = lstatSync(path);
  // Order: while the folder is not held, its owner may exchange what lies in it.
  handOver(path, 0o711, ROOT);
  const socket = join(path, 'gw.sock');
  const found = lstatSync(socket);
  // Another's socket may be linked there under this name.
  if (!found.isSocket() || found.uid !== uid) {
    throw new BelayError('ERR_HOME', `\`${socket}\` is not the daemon's socket`);
  }
  lchownSync(socket, agent.uid, agent.gid);
  return { [Symbol.dispose]: () => handOver(path, 0o700, { uid, gid }) };
}

/**
 * A home stays from run to run. It is for one agent in one environment and workspace: what a run
 * leaves there, settings and start files among it, is obeyed by no run that may do something else.
 */
export function makeAgentHome(
  home: Home,
  { agent, environment }: Pick<OpenedRun, 'agent' | 'environment'>,
  { path: workdir, agent: owner }: Workdir,
): string {
  const key = createHash('sha256').update(`${environment}\0${workdir}`).digest('hex').slice(0, 16);
  const parts = [
    agent,
    basename(workdir)
      .replace(/[^\w.-]/g, '')
      .slice(0, 32),
    key,
  ];
  const path = join(home.homes, [...parts, ...(owner === undefined ? [] : [owner.uid])].join('-'));
  if (dirname(path) !== home.homes) {
    throw new BelayError('ERR_HOME', `\`${agent}\` is not the name of an agent`);
  }
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (owner !== undefined) handOver(path, 0o700, owner);
  return path;
}
