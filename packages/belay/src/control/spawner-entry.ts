// The spawner as a process of its own, started by `belay run` when no daemon is alive. Says on
// descriptor 3 whether the daemon came up, then goes on without it.

import { closeSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { asBelayError } from '../core/errors.ts';
import { findHome } from './home.ts';
import { type DaemonLine, supervise } from './spawner.ts';

const { values } = parseArgs({
  options: { linger: { type: 'string' }, owner: { type: 'string' } },
});

let listening = true;
const say = (line: DaemonLine): void => {
  if (!listening) return;
  listening = false;
  writeSync(3, `${JSON.stringify(line)}\n`);
  closeSync(3);
};

const [uid, gid] = (values.owner ?? '').split(':').map(Number);
try {
  process.exitCode = await supervise({
    home: findHome(process.env),
    ...(values.owner === undefined ? {} : { owner: { uid: uid as number, gid: gid as number } }),
    ...(values.linger === undefined ? {} : { lingerMs: Number(values.linger) }),
    onReady: () => say({ kind: 'ready' }),
  });
} catch (error) {
  const { code, message, hint } = asBelayError('ERR_DAEMON', 'the daemon did not start', error);
  say({ kind: 'failed', code, message, ...(hint === undefined ? {} : { hint }) });
  process.exitCode = 1;
}
