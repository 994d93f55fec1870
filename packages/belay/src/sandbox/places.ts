// Which folders may be a workspace. The agent writes there, so it may hold neither Belay's own state
// (I10) nor a part of the system, and is named by its real path.

import { realpathSync, statSync } from 'node:fs';
import { BelayError, reasonOf } from '../core/errors.ts';
import { AGENT_HOME } from './bwrap.ts';
import { within } from './command.ts';
import type { SandboxSpec } from './spec.ts';

const SYSTEM = [
  '/bin',
  '/sbin',
  '/lib',
  '/lib32',
  '/lib64',
  '/libx32',
  '/etc',
  '/proc',
  '/sys',
  '/dev',
];
const INSIDE = [...SYSTEM, '/usr', '/tmp', '/var/tmp', '/run/belay', AGENT_HOME];

/** The workspace's real path. Throws ERR_USAGE. */
export function resolveWorkdir(spec: SandboxSpec): string {
  let workdir: string;
  try {
    workdir = realpathSync(spec.workdir);
    if (!statSync(workdir).isDirectory()) throw new Error('not a folder');
  } catch (error) {
    throw new BelayError('ERR_USAGE', `workspace \`${spec.workdir}\`: ${reasonOf(error)}`);
  }
  for (const path of [spec.home, spec.runDir, spec.trustDir]) {
    if (within(realpathSync(path), workdir)) {
      throw new BelayError('ERR_USAGE', `workspace \`${workdir}\` holds Belay's own state`, {
        hint: 'choose a folder below it as --workdir',
      });
    }
  }
  const system =
    INSIDE.some((path) => within(path, workdir)) || SYSTEM.some((path) => within(workdir, path));
  if (system) {
    throw new BelayError('ERR_USAGE', `workspace \`${workdir}\` is a part of the system`, {
      hint: 'choose a project folder as --workdir',
    });
  }
  for (const path of spec.readOnly) {
    if (within(workdir, path) || path === '/') {
      throw new BelayError(
        'ERR_USAGE',
        `\`${path}\` would be visible whole, with the workspace in it`,
      );
    }
  }
  return workdir;
}
