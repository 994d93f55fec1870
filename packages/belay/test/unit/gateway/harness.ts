// A real gateway on real sockets, with clients that come through the bridge's socket or the proxy.
// `perform` is the test's own: it is injected into the gateway by contract.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { Call, Response, Result } from '../../../src/core/call.ts';
import type { RunId } from '../../../src/core/ids.ts';
import type { ReportedDenial } from '../../../src/gateway/connection.ts';
import { createGateway, type Gateway, type GatewayLimits } from '../../../src/gateway/gateway.ts';
import { type Authority, createAuthority } from '../../../src/gateway/listen/x509.ts';
import type { DeclaredUpstreams } from '../../../src/upstream/request.ts';
import type { Upstream } from '../../../src/upstream/upstream.ts';

export const authority: Authority = createAuthority(Date.now());
export const RUN = 'r-23456789' as RunId;

export interface Harness extends AsyncDisposable {
  readonly gateway: Gateway;
  readonly path: string;
  readonly denials: ReportedDenial[];
  readonly queries: { readonly name: string; readonly qtype: number }[];
  /** Every call that reached `perform`. */
  readonly calls: Call[];
  readonly reasons: () => string[];
  detach(): Promise<void>;
}

export async function startGateway(
  perform: (call: Call) => Promise<Result>,
  limits: Partial<GatewayLimits> = {},
): Promise<Harness> {
  const dir = mkdtempSync(join(tmpdir(), 'belay-gw-'));
  const path = join(dir, 'gw.sock');
  const denials: ReportedDenial[] = [];
  const queries: { name: string; qtype: number }[] = [];
  const calls: Call[] = [];
  const gateway = createGateway({
    perform(call) {
      calls.push(call);
      return perform(call);
    },
    authority,
    clock: Date.now,
    random: randomBytes,
    onNetDenial: (denial) => denials.push(denial),
    onDns: ({ name, qtype }) => queries.push({ name, qtype }),
    limits,
  });
  const { detach } = await gateway.attachRun({ run: RUN, socketPath: path });
  return {
    gateway,
    path,
    denials,
    queries,
    calls,
    reasons: () => denials.map(({ reason }) => reason),
    detach,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Sends every call to a real upstream; what the monitor does when everything is permitted. */
export function passThrough(
  upstream: Upstream,
  declared: DeclaredUpstreams,
): (call: Call) => Promise<Result> {
  return async (call) => {
    const result = await upstream.send({
      kind: call.kind,
      env: 'test',
      target: call.target,
      method: call.method,
      pathAndQuery: call.query === '' ? call.path : `${call.path}?${call.query}`,
      headers: call.headers,
      body: call.body,
      signal: call.signal,
      stopped: () => undefined,
      declared,
    });
    if (result.kind === 'response') return result;
    const { code, reason } = result;
    const told = { status: 502, message: 'the upstream could not be reached' };
    return {
      kind: 'denied',
      denial: { kind: 'deny', step: 'carry out', code, reason, told, policies: [] },
    };
  };
}

export function denied(status: number, message: string): Result {
  return {
    kind: 'denied',
    denial: {
      kind: 'deny',
      step: 'decide',
      code: 'policy.no-permit',
      reason: 'no policy permits it',
      told: { status, message },
      policies: [],
    },
  };
}

/** A response whose body is one piece. */
export function answer(text: string, status = 200): Response {
  const bytes = Buffer.from(text);
  return {
    kind: 'response',
    status,
    headers: [['content-length', String(bytes.length)]],
    body: {
      flow(sink) {
        queueMicrotask(() => {
          sink.write(bytes);
          sink.end();
        });
        return { resume() {}, abort() {} };
      },
    },
  };
}

export interface Destination {
  readonly dst?: string;
  readonly port?: number;
  readonly name?: string;
}

/** A socket that has told the gateway where its agent meant to go. */
export function throughBridge(path: string, to: Destination): Socket {
  const socket = connect(path).on('error', () => {});
  socket.write(`${JSON.stringify({ v: 1, dst: '198.18.0.1', port: 443, ...to })}\n`);
  return socket;
}

/** The same with TLS finished, trusting the installation's authority only. */
export function tlsThroughBridge(
  path: string,
  to: Destination,
  servername = to.name,
): Promise<TLSSocket> {
  return secured(throughBridge(path, to), servername);
}

export function secured(socket: Socket, servername: string | undefined): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secure = tlsConnect({
      socket,
      ca: authority.certificatePem,
      ALPNProtocols: ['http/1.1'],
      ...(servername === undefined ? { checkServerIdentity: () => undefined } : { servername }),
    });
    secure.once('secureConnect', () => resolve(secure)).once('error', reject);
  });
}

export interface Got {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

/** One request on a socket that is ready for it. */
export function ask(socket: Socket, options: RequestOptions, body?: string | Buffer): Promise<Got> {
  const headers = { host: options.host ?? 'api.example.com', ...options.headers };
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      { ...options, headers, createConnection: () => socket },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => {
          const { statusCode, headers, rawHeaders } = incoming;
          const text = Buffer.concat(chunks).toString();
          resolve({ status: statusCode as number, headers, rawHeaders, body: text });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** Writes bytes as they are and reads until the other side closes, or for a while. */
export function raw(socket: Socket, bytes: string | Buffer, waitMs = 1500): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const done = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(text);
    };
    const timer = setTimeout(done, waitMs);
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.once('close', done).once('end', done);
    socket.write(bytes);
  });
}
