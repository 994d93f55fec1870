// A test's upstream: HTTPS on the loopback under an authority of its own, and a journal of every
// request that arrived. It answers `ok`, unless the test says otherwise.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import {
  type AddressInfo,
  createServer as createPlainServer,
  type Server,
  type Socket,
} from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { createServer as createTlsServer } from 'node:tls';
import { createAuthority } from '../../src/gateway/listen/x509.ts';

export interface Arrival {
  readonly method: string;
  readonly host: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
}

export interface Upstream extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly address: string;
  readonly caPem: string;
  readonly arrivals: Arrival[];
  /** How many are open now. */
  connections(): Promise<number>;
  /** Takes over the connection of a request that asks for another protocol. */
  upgrade?: (request: IncomingMessage, socket: Duplex) => void;
  /** Replaced by a test that wants more than `ok`. */
  answer: (request: IncomingMessage, reply: ServerResponse, arrival: Arrival) => void;
}

export async function startUpstream(hosts: readonly string[]): Promise<Upstream> {
  const authority = createAuthority(Date.now());
  const contexts = new Map(hosts.map((host) => [host, authority.mint(host, Date.now())]));
  const [first] = contexts.values();
  if (first === undefined) throw new TypeError('an upstream needs a host');
  const { cert, key } = first;
  const { createSecureContext } = await import('node:tls');
  const upstream = {
    caPem: authority.certificatePem,
    arrivals: [] as Arrival[],
    answer: (_request: IncomingMessage, reply: ServerResponse) => void reply.end('ok\n'),
  } as unknown as { -readonly [Key in keyof Upstream]: Upstream[Key] };
  const server = createServer(
    {
      cert,
      key,
      SNICallback: (name, done) => {
        const leaf = contexts.get(name) ?? first;
        done(null, createSecureContext({ cert: leaf.cert, key: leaf.key }));
      },
    },
    (request, reply) => {
      const { method = '', url = '', headers } = request;
      const arrival = { method, url, headers, host: headers.host ?? '' };
      upstream.arrivals.push(arrival);
      request.on('error', () => {});
      reply.on('error', () => {});
      upstream.answer(request, reply, arrival);
      // An answer that does not read the request leaves it to us.
      if (request.listenerCount('data') === 0) request.resume();
    },
  );
  server.on('tlsClientError', () => {});
  server.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
    const { method = '', url = '', headers } = request;
    upstream.arrivals.push({ method, url, headers, host: headers.host ?? '' });
    socket.on('error', () => {});
    if (upstream.upgrade === undefined) socket.destroy();
    else upstream.upgrade(request, socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  upstream.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  upstream.connections = () => connectionsOf(server);
  upstream[Symbol.asyncDispose] = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return upstream;
}

function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
  });
}

export interface RawUpstream extends AsyncDisposable {
  readonly address: string;
  readonly caPem: string;
  /** What arrived on each connection, in latin1. */
  readonly heard: string[];
  connections(): Promise<number>;
}

/** An upstream that says what it likes: over TLS for a host, or plainly. */
export async function startRawUpstream(
  host: string | undefined,
  onSocket: (socket: Socket) => void,
): Promise<RawUpstream> {
  const authority = createAuthority(Date.now());
  const heard: string[] = [];
  const sockets = new Set<Socket>();
  const accept = (socket: Socket): void => {
    const n = heard.push('') - 1;
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      heard[n] += chunk.toString('latin1');
    });
    socket.on('close', () => sockets.delete(socket));
    onSocket(socket);
  };
  const server =
    host === undefined
      ? createPlainServer({ allowHalfOpen: true }, accept)
      : createTlsServer({ ...authority.mint(host, Date.now()) }, accept);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    caPem: authority.certificatePem,
    heard,
    connections: () => connectionsOf(server),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** An authority that no upstream here uses. */
export function strangeAuthority(): string {
  return createAuthority(Date.now()).certificatePem;
}

/** A folder of the test's own that goes away with it. */
export function scratch(): Disposable & {
  readonly path: string;
  put(name: string, text: string): string;
} {
  const path = mkdtempSync(join(tmpdir(), 'belay-scratch-'));
  return {
    path,
    put(name, text) {
      writeFileSync(join(path, name), text, { mode: 0o644 });
      return join(path, name);
    },
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}
