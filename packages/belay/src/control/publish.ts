// Ports of an agent's own servers, reached on the loopback of the host because its user asked for it.
// Each connection gets a process of its own in the agent's network namespace, which knows one
// address: that namespace's loopback. It lives outside the agent's processes and files.

import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Server, type Socket } from 'node:net';
import { BelayError } from '../core/errors.ts';
import { RELAY } from '../sandbox/perl.ts';
import { TOOL_ENV } from '../sandbox/tools.ts';
import type { Owner } from './home.ts';

export interface PublishedPort {
  /** On 127.0.0.1 of the host. */
  readonly host: number;
  /** On the agent's loopback. */
  readonly inside: number;
}

export interface PublishOptions {
  readonly ports: readonly PublishedPort[];
  readonly agentNetPid: number;
  /** Whom the sandbox belongs to; given exactly when the caller is root. */
  readonly as: Owner | undefined;
}

const MOST_CONNECTIONS = 64;

/** `3000` or `8080:3000`; throws ERR_USAGE. */
export function parsePublished(text: string): PublishedPort {
  const [, host, inside = host] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? [];
  const ports = { host: Number(host), inside: Number(inside) };
  const valid = (port: number): boolean => port >= 1 && port <= 65_535;
  if (valid(ports.host) && valid(ports.inside)) return ports;
  throw new BelayError('ERR_USAGE', `\`${text}\` is not a port to publish`, {
    hint: 'write 3000, or 8080:3000 for port 8080 of the host',
  });
}

/** Throws ERR_HOST when a port is taken. */
export async function publish(options: PublishOptions): Promise<AsyncDisposable> {
  const servers: Server[] = [];
  const relays = new Set<ChildProcess>();
  const close = async (): Promise<void> => {
    const closed = servers.map((server) => new Promise((resolve) => void server.close(resolve)));
    for (const relay of relays) relay.kill('SIGKILL');
    await Promise.all(closed);
  };
  try {
    for (const { host, inside } of options.ports) {
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        relays.add(carry(socket, inside, options, (relay) => relays.delete(relay)));
      });
      server.maxConnections = MOST_CONNECTIONS;
      servers.push(server);
      await listen(server, host);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { [Symbol.asyncDispose]: close };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message;
      reject(
        new BelayError('ERR_HOST', `cannot publish on \`127.0.0.1:${port}\`: ${why}`, {
          hint: 'publish it elsewhere: --publish HOST-PORT:PORT',
        }),
      );
    });
    server.listen(port, '127.0.0.1', resolve);
  });
}

function carry(
  socket: Socket,
  port: number,
  { agentNetPid, as }: PublishOptions,
  onGone: (relay: ChildProcess) => void,
): ChildProcess {
  const become =
    as === undefined
      ? []
      : ['--reuid', String(as.uid), '--regid', String(as.gid), '--clear-groups', '--no-new-privs'];
  const relay = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', ...become, '--', 'nsenter', '-t', String(agentNetPid)],
      ...['--user', '--net', '--preserve-credentials', 'perl', '-e', RELAY, '--', String(port)],
    ],
    { cwd: '/', env: TOOL_ENV, stdio: ['pipe', 'pipe', 'ignore'] },
  );
  relay.on('error', () => socket.destroy());
  relay.on('close', () => {
    onGone(relay);
    if (!socket.writableEnded) socket.resetAndDestroy();
  });
  socket.on('error', () => relay.kill('SIGKILL')).on('close', () => relay.kill('SIGKILL'));
  relay.stdin?.on('error', () => {}); // it ended: `close` follows
  socket.pipe(relay.stdin as NodeJS.WritableStream);
  relay.stdout?.pipe(socket);
  return relay;
}
