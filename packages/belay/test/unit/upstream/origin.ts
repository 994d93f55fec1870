// A real upstream for tests: an HTTP or HTTPS server on the loopback whose certificate comes from an
// authority of its own, and what it takes to declare it.

import {
  createServer as createHttp,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { CallBody, Headers, Response } from '../../../src/core/call.ts';
import { parseHost, type Target } from '../../../src/core/target.ts';
import { type Authority, createAuthority } from '../../../src/gateway/listen/x509.ts';
import type {
  DeclaredUpstreams,
  SendResult,
  UpstreamRequest,
} from '../../../src/upstream/request.ts';

export const originAuthority: Authority = createAuthority(Date.now());

export interface Origin extends AsyncDisposable {
  readonly server: Server;
  readonly port: number;
  /** Connections accepted so far. */
  connections(): number;
}

export type Handler = (request: IncomingMessage, reply: ServerResponse) => void;

export async function startOrigin(
  handler: Handler,
  options: { readonly tls?: string; readonly authority?: Authority } = {},
): Promise<Origin> {
  const { authority = originAuthority } = options;
  const server: Server =
    options.tls === undefined
      ? createHttp(handler)
      : createHttps(authority.mint(options.tls, Date.now()), handler);
  let connections = 0;
  server.on('connection', () => connections++);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    server,
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

export function target(scheme: 'http' | 'https', host: string, port?: number): Target {
  return { scheme, host: parseHost(host), port: port ?? (scheme === 'https' ? 443 : 80) };
}

/** Declares hosts at a local port, trusting the test's authority. */
export function declare(port: number, ...hosts: readonly string[]): DeclaredUpstreams {
  const entry = { address: `127.0.0.1:${port}`, tls: { ca: originAuthority.certificatePem } };
  return new Map(hosts.map((host) => [host, entry]));
}

export const NOTHING_DECLARED: DeclaredUpstreams = new Map();

export function request(
  to: Target,
  declared: DeclaredUpstreams,
  more: Partial<UpstreamRequest> = {},
): UpstreamRequest {
  return {
    kind: 'http',
    env: 'test',
    target: to,
    method: 'GET',
    pathAndQuery: '/',
    headers: [],
    body: { kind: 'none' },
    signal: new AbortController().signal,
    stopped: () => undefined,
    declared,
    ...more,
  };
}

export function expectResponse(result: SendResult): Response {
  if (result.kind !== 'response') throw new Error(`${result.code}: ${result.reason}`);
  return result;
}

/** Reads a body to its end; rejects with what broke it. */
export function readAll(response: Response): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    response.body.flow({
      write: (chunk) => chunks.push(chunk) > 0,
      end: () => resolve(Buffer.concat(chunks)),
      fail: reject,
    });
  });
}

export function fieldOf(headers: Headers, name: string): string[] {
  return headers.filter(([field]) => field === name).map(([, value]) => value);
}

export function streamed(source: AsyncIterable<Uint8Array>): CallBody {
  return { kind: 'streamed', source };
}

/** Waits for a condition, within a limit that a busy machine keeps too. */
export async function until(what: string, holds: () => boolean, limitMs = 5000): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((tick) => setTimeout(tick, 5));
  }
}

/** Waits until a number has not changed for a while, and returns it. */
export async function settled(value: () => number): Promise<number> {
  for (let before = -1, last = value(); ; last = value()) {
    if (last === before) return last;
    before = last;
    await new Promise((wait) => setTimeout(wait, 250));
  }
}
