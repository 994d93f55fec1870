// The world that the demo's runs can reach, all of it on this machine's loopback: the GitHub and
// Slack twins, a host of large files, and one stand-in for every site that nobody listed, which
// writes down whatever arrives. Nothing that the agent tries may ever arrive there.

import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { BelayError } from '../core/errors.ts';
import type { Ports } from './stage.ts';

export interface World extends AsyncDisposable {
  readonly ports: Ports;
  /** `METHOD host/path` of each request that reached a site that nobody listed. */
  readonly arrivals: readonly string[];
  /** When the connection of the last large download closed, on the clock of performance.now(). */
  downloadClosed(): Promise<number>;
}

export interface WorldOptions {
  readonly emulate: string;
  readonly dir: string;
  /** The one token that acts as `demo-bot`; any other is a visitor. */
  readonly githubKey: string;
  readonly slackToken: string;
}

export async function startWorld(options: WorldOptions): Promise<World> {
  await using started = new AsyncDisposableStack();
  const arrivals: string[] = [];
  const closed = Promise.withResolvers<number>();
  const strangers = createServer((request, response) => {
    request.resume();
    arrivals.push(`${request.method} ${request.headers.host ?? ''}${request.url ?? ''}`);
    response.end('received\n');
  });
  const files = createServer((_, response) => {
    response.once('close', () => closed.resolve(performance.now()));
    pour(response);
  });
  for (const server of [strangers, files]) {
    started.defer(() => close(server));
    await listen(server);
  }
  const seed = join(options.dir, 'twins.json');
  writeFileSync(seed, JSON.stringify(seedOf(options)), { mode: 0o600 });
  const twin = async (service: string): Promise<number> => {
    const port = await freePort();
    const child = startTwin(options.emulate, service, port, seed);
    started.defer(() => end(child));
    await ready(child, service);
    return port;
  };
  const [github, slack] = await Promise.all([twin('github'), twin('slack')]);
  rmSync(seed);
  const owned = started.move();
  return {
    ports: { github, slack, files: portOf(files), strangers: portOf(strangers) },
    arrivals,
    downloadClosed: () => closed.promise,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const MEBIBYTE = Buffer.alloc(2 ** 20, 'belay ');
const POUR_EVERY_MS = 10;

/** An answer without an end: 1 MiB each 10 ms for as long as someone reads. */
function pour(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  let blocked = false;
  response.on('drain', () => {
    blocked = false;
  });
  const timer = setInterval(() => {
    if (!blocked) blocked = !response.write(MEBIBYTE);
  }, POUR_EVERY_MS);
  response.once('close', () => clearInterval(timer));
}

function seedOf({ githubKey, slackToken }: WorldOptions): object {
  const repo = (name: string) => ({ owner: 'acme', name, auto_init: true });
  return {
    tokens: {
      [githubKey]: { login: 'demo-bot', scopes: ['repo', 'delete_repo'] },
      [slackToken]: { login: 'U000000001', scopes: ['chat:write'] },
    },
    github: {
      users: [{ login: 'visitor' }, { login: 'demo-bot' }],
      orgs: [{ login: 'acme', members: [{ login: 'demo-bot', role: 'admin' }] }],
      repos: [repo('rope'), repo('spare'), repo('spare-control')],
    },
  };
}

function startTwin(folder: string, service: string, port: number, seed: string): ChildProcess {
  const program = join(folder, 'dist', 'index.js');
  const options = ['--service', service, '--port', String(port), '--seed', seed];
  return spawn(process.execPath, [program, 'start', ...options], {
    cwd: '/',
    env: { PATH: process.env.PATH ?? '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

const READY_WITHIN_MS = 15_000;

/** Waits for the twin to say that it listens. Throws ERR_HOST with its last words if it ends. */
function ready(child: ChildProcess, service: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let words = '';
    const refuse = (why: string): void => {
      const message = `the ${service} twin ${why}: ${words.trim().slice(-300)}`;
      reject(new BelayError('ERR_HOST', message));
    };
    const timer = setTimeout(() => refuse('does not start'), READY_WITHIN_MS);
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        words = (words + chunk.toString()).slice(-2000);
        if (!words.includes('Ready.')) return;
        clearTimeout(timer);
        resolve();
      });
    }
    child.once('error', (error) => refuse(error.message));
    child.once('exit', () => {
      clearTimeout(timer);
      refuse('ended');
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** A port that was free a moment ago: the twin takes a number, not a socket. */
async function freePort(): Promise<number> {
  const server = createServer();
  await listen(server);
  const port = portOf(server);
  await close(server);
  return port;
}
