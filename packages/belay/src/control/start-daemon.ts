// Finds the daemon of this home, or starts one that leaves by itself.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { BelayError, type ErrorCode } from '../core/errors.ts';
import { type Client, connectControl } from './client.ts';
import { type Home, type Owner, prepareHome } from './home.ts';
import type { DaemonStatus } from './protocol.ts';
import type { DaemonLine } from './spawner.ts';
import { DAEMON_USER, requireReachable, systemUser } from './users.ts';

/** How long a daemon that was started for a command stays when nothing runs. */
const LINGER_MS = 60_000;
const START_TIMEOUT_MS = 15_000;
const LOCKED_MS = 1_000;

/** The daemon's user: none for an ordinary user, `belay` for root. */
export function daemonOwner(): Owner | undefined {
  if (process.getuid?.() !== 0) return undefined;
  requireReachable(process.execPath, 'node');
  requireReachable(fileURLToPath(import.meta.url), 'Belay');
  return systemUser(DAEMON_USER);
}

/** A client of a daemon that is alive; starts one when there is none. */
export async function ensureDaemon(home: Home): Promise<Client> {
  const client = connectControl(home);
  if (await alive(client)) return client;
  const owner = daemonOwner();
  prepareHome(home, owner);
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const failure = await startSpawner(home, owner);
    if (failure === undefined) return client;
    // The one that holds the lock starts for another launcher, and is soon found, or it leaves.
    if (failure.code !== 'ERR_LOCKED' || performance.now() > deadline) throw failure;
    if (await awaitAlive(client, LOCKED_MS)) return client;
  }
}

export async function alive(client: Client): Promise<boolean> {
  try {
    await client.get<DaemonStatus>('/v1/status');
    return true;
  } catch {
    // Whatever the reason, the caller starts a daemon, which finds out and says so.
    return false;
  }
}

async function awaitAlive(client: Client, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs;
  while (performance.now() < deadline) {
    if (await alive(client)) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}

function startSpawner(home: Home, owner: Owner | undefined): Promise<BelayError | undefined> {
  const here = import.meta.url;
  const script = new URL(`./spawner-entry${here.slice(here.lastIndexOf('.'))}`, here);
  const argv = [fileURLToPath(script), '--linger', String(LINGER_MS)];
  if (owner !== undefined) argv.push('--owner', `${owner.uid}:${owner.gid}`);
  const child = spawn(process.execPath, argv, {
    cwd: '/',
    detached: true,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', BELAY_HOME: home.root },
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  return new Promise((resolve) => {
    const pipe = child.stdio[3] as NodeJS.ReadableStream & { destroy(): void };
    const done = (failure?: BelayError): void => {
      clearTimeout(timer);
      pipe.destroy();
      child.unref();
      resolve(failure);
    };
    const timer = setTimeout(
      () =>
        done(
          new BelayError('ERR_DAEMON', `no daemon after ${START_TIMEOUT_MS} ms`, {
            hint: `see ${home.log}`,
          }),
        ),
      START_TIMEOUT_MS,
    );
    createInterface({ input: pipe }).on('line', (text) => {
      const line = JSON.parse(text) as DaemonLine;
      if (line.kind !== 'failed') return done();
      const hint = line.hint === undefined ? {} : { hint: line.hint };
      done(new BelayError(line.code as ErrorCode, line.message, hint));
    });
    child.on('error', (error) => done(new BelayError('ERR_DAEMON', error.message)));
    child.on('exit', () =>
      done(new BelayError('ERR_DAEMON', 'the daemon did not start', { hint: `see ${home.log}` })),
    );
  });
}
