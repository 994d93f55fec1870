// A test's upstream: HTTPS on the loopback under an authority of its own, and a journal of every
// request that arrived. It answers `ok`, unless the test says otherwise.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  upstream.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  upstream[Symbol.asyncDispose] = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return upstream;
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
