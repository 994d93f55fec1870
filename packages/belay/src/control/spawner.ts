// Starts the daemon and the guard beside it, and starts a new guard when the daemon misses one.
// Started as root it is the only part that stays root besides the guard: the daemon drops to the
// user `belay`. It holds no secret and reads nothing but one line at a time from the daemon.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BelayError, type ErrorCode } from '../core/errors.ts';
import type { Home, Owner } from './home.ts';

/** Lines that the daemon writes to the spawner on descriptor 3. */
export type DaemonLine =
  | { readonly kind: 'locked' }
  | { readonly kind: 'ready' }
  | {
      readonly kind: 'failed';
      readonly code: string;
      readonly message: string;
      readonly hint?: string;
    }
  | { readonly kind: 'guard-lost' };

export interface SpawnerOptions {
  readonly home: Home;
  /** The daemon's user when the spawner is root. */
  readonly owner?: Owner;
  /** The daemon leaves this long after its last run; absent: it stays. */
  readonly lingerMs?: number;
  /** Of the explicit proxy; absent: any free one, once it is needed. */
  readonly proxyPort?: number;
  readonly onReady: () => void;
}

const MOST_GUARDS_A_MINUTE = 20;
const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
const APPEND = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW;
/** One background thread of the engine instead of four: less memory, and no slower. And a way to have
 * it collect, for idle.ts. */
const DAEMON_FLAGS = ['--v8-pool-size=1', '--expose-gc'];

/** Resolves when the daemon has ended, with its exit status; rejects when it could not start. */
export async function supervise(options: SpawnerOptions): Promise<number> {
  const { home, owner, lingerMs, proxyPort, onReady } = options;
  const log = openSync(home.log, APPEND, 0o600);
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', BELAY_HOME: home.root };
  let guard: ChildProcess | undefined;
  let started: number[] = [];

  const startGuard = (): void => {
    if (guard !== undefined && guard.exitCode === null && guard.signalCode === null) return;
    started = started.filter((at) => performance.now() - at < 60_000);
    if (started.length >= MOST_GUARDS_A_MINUTE) return;
    started.push(performance.now());
    const argv = [entry('../sandbox/guard'), home.guardSocket];
    if (owner !== undefined) argv.push(`${owner.uid}:${owner.gid}`);
    guard = spawn(process.execPath, argv, { cwd: '/', env, stdio: ['ignore', 'ignore', log] });
  };

  const daemon = spawn(
    process.execPath,
    [
      ...DAEMON_FLAGS,
      entry('./daemon-entry'),
      ...(lingerMs === undefined ? [] : ['--linger', String(lingerMs)]),
      ...(proxyPort === undefined ? [] : ['--proxy-port', String(proxyPort)]),
    ],
    {
      cwd: '/',
      env,
      stdio: ['ignore', log, log, 'pipe'],
      ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid }),
    },
  );
  const forward = (signal: NodeJS.Signals) => daemon.kill(signal);
  process.on('SIGTERM', forward).on('SIGINT', forward);

  return new Promise((resolve, reject) => {
    let failure: BelayError | undefined;
    const said = createInterface({ input: daemon.stdio[3] as NodeJS.ReadableStream });
    said.on('line', (text) => {
      const line = JSON.parse(text) as DaemonLine;
      if (line.kind === 'ready') onReady();
      // Two spawners may race for a home: the guard of the one that lost would take the place of the
      // other's.
      else if (line.kind === 'locked' || line.kind === 'guard-lost') startGuard();
      else {
        const hint = line.hint === undefined ? {} : { hint: line.hint };
        failure = new BelayError(line.code as ErrorCode, line.message, hint);
      }
    });
    daemon.on('error', (error) => reject(new BelayError('ERR_DAEMON', error.message)));
    daemon.on('exit', (code) => {
      process.off('SIGTERM', forward).off('SIGINT', forward);
      said.close();
      closeSync(log);
      // A daemon that ended by itself has said goodbye to the guard. One that died has not: its
      // guard holds the frozen runs and leaves by itself when the last of them is gone.
      if (code === 0 || failure !== undefined) guard?.kill('SIGTERM');
      else guard?.unref();
      if (failure !== undefined) reject(failure);
      else resolve(code ?? 1);
    });
  });
}

/** A sibling program, as JavaScript when this file is. */
function entry(name: string): string {
  const here = import.meta.url;
  return fileURLToPath(new URL(`${name}${here.slice(here.lastIndexOf('.'))}`, here));
}
