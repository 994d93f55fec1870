// The daemon as a process: started by the spawner, which hears on descriptor 3 how it went.

import { readFileSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { asBelayError } from '../core/errors.ts';
import { runDaemon } from './daemon.ts';
import { findHome } from './home.ts';
import { createRandom } from './random.ts';
import type { DaemonLine } from './spawner.ts';

const { values } = parseArgs({
  options: { linger: { type: 'string' }, 'proxy-port': { type: 'string' } },
});
const proxyPort = values['proxy-port'];
const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
const abort = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => abort.abort());

const say = (line: DaemonLine): void => {
  try {
    writeSync(3, `${JSON.stringify(line)}\n`);
  } catch {
    // The spawner is gone: nobody is left who could hear it, and the daemon goes on.
  }
};

process.umask(0o077);
try {
  await runDaemon({
    home: findHome(process.env),
    version: (JSON.parse(manifest) as { version: string }).version,
    ...(values.linger === undefined ? {} : { lingerMs: Number(values.linger) }),
    ...(proxyPort === undefined ? {} : { proxyPort: Number(proxyPort) }),
    clock: Date.now,
    random: createRandom(),
    onLocked: () => say({ kind: 'locked' }),
    onReady: () => say({ kind: 'ready' }),
    onGuardLost: () => say({ kind: 'guard-lost' }),
    signal: abort.signal,
  });
} catch (error) {
  const { code, message, hint } = asBelayError('ERR_DAEMON', 'the daemon ended', error);
  process.stderr.write(`belay: error: ${message}\n`);
  say({ kind: 'failed', code, message, ...(hint === undefined ? {} : { hint }) });
  process.exitCode = 1;
}
