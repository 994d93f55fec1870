// The gateway: every way in for an agent's bytes, and none out. It knows which run a connection
// belongs to, where it was going, and what was asked there; it hands each request to `perform`
// and writes the answer. It holds no upstream socket (I1) and decides nothing about permissions.

import type { Server } from 'node:net';
import type { Call, Result } from '../core/call.ts';
import { BelayError } from '../core/errors.ts';
import type { Clock, Random, RunId } from '../core/ids.ts';
import type { Tunnel } from '../core/target.ts';
import {
  type Attachment,
  type Connection,
  createAttachment,
  cut,
  owesAnswer,
  type ReportedDenial,
} from './connection.ts';
import { breakOff } from './flow.ts';
import { createServe } from './http/serve.ts';
import { createHttpServer, endWith, startWithoutListening, syntaxError } from './http/server.ts';
import { listenForBridge, type SeenQuery } from './listen/bridge-listener.ts';
import { createLeafContexts } from './listen/leaf-contexts.ts';
import { listenForProxy, type ProxyListener, type ProxyOptions } from './listen/proxy-listener.ts';
import { createRoad } from './listen/road.ts';
import type { Authority } from './listen/x509.ts';
import { createTunnels } from './tunnel.ts';

export interface GatewayParts {
  readonly perform: (call: Call) => Promise<Result>;
  readonly authority: Authority;
  readonly clock: Clock;
  readonly random: Random;
  /** What was refused without becoming a Call. */
  readonly onNetDenial: (denial: ReportedDenial) => void;
  /** A name that a run asked for; it was answered by the bridge. */
  readonly onDns?: (query: SeenQuery) => void;
  readonly limits?: Partial<GatewayLimits>;
}

export interface GatewayLimits {
  /** From a connection to the bridge's line. */
  readonly lineTimeoutMs: number;
  /** From there to the agent's first byte. */
  readonly firstByteTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
  readonly headersTimeoutMs: number;
  readonly keepAliveMs: number;
  readonly maxSocketsPerRun: number;
}

const LIMITS: GatewayLimits = {
  lineTimeoutMs: 5_000,
  firstByteTimeoutMs: 10_000,
  handshakeTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  keepAliveMs: 60_000,
  maxSocketsPerRun: 2_048,
};

export interface AttachOptions {
  readonly run: RunId;
  /** Absent: the run comes through the proxy only. */
  readonly socketPath?: string;
  /** Of the socket's file; default 0600. */
  readonly mode?: number;
  /** Which connections are passed on as they are, by `host:port`. */
  readonly tunnels?: ReadonlyMap<string, Tunnel>;
}

export interface Gateway extends AsyncDisposable {
  /** Lets a run in. `detach` cuts it and waits until nothing of it is left. */
  attachRun(options: AttachOptions): Promise<{ detach(): Promise<void> }>;
  listenProxy(options: ProxyOptions): Promise<ProxyListener>;
  /** Ends every call and connection of a run at once; new ones are still accepted. */
  cutRun(run: RunId): void;
  stats(): { readonly runs: number; readonly connections: number; readonly calls: number };
}

export function createGateway(parts: GatewayParts): Gateway {
  const { authority, clock, random, perform, onNetDenial: report, onDns = () => {} } = parts;
  const limits = { ...LIMITS, ...parts.limits };
  const attachments = new Map<RunId, Attachment>();
  const detachments = new Set<() => Promise<void>>();
  const proxies = new Set<ProxyListener>();
  const connections = new WeakMap<object, Connection>();

  const serve = createServe({ perform, report, clock, random });
  const http = createHttpServer(limits, {
    connections,
    onRequest(request, reply) {
      const connection = connections.get(request.socket);
      if (connection === undefined) request.socket.destroy();
      else serve.request(connection, request, reply);
    },
    onWebSocket: serve.webSocket,
    onOverrun: serve.overrun,
  });
  // Without a listener node:http would close a CONNECT in silence.
  http.on('connect', (_request, socket) => refuseBelowHttp(socket, '405 Method Not Allowed'));
  http.on('clientError', (error, socket) => {
    const found = syntaxError(error);
    if (found === undefined) return void socket.destroy();
    refuseBelowHttp(socket, found.status, found.reason);
  });
  startWithoutListening(http);

  function refuseBelowHttp(
    socket: Parameters<typeof endWith>[0],
    status: string,
    reason = 'the method CONNECT inside a connection',
  ): void {
    const connection = connections.get(socket);
    if (connection?.target !== undefined) {
      const { host, port } = connection.target;
      report({ run: connection.attachment.run, host, port, reason });
    }
    // In the place of an answer that is still to come, it would be that answer.
    if (connection !== undefined && owesAnswer(connection)) breakOff(connection);
    else endWith(socket, status);
  }

  const enter = createRoad({
    http,
    connections,
    leaves: createLeafContexts(authority, clock),
    tunnel: createTunnels({ perform, report, clock, random }),
    report,
    firstByteTimeoutMs: limits.firstByteTimeoutMs,
    handshakeTimeoutMs: limits.handshakeTimeoutMs,
  });

  return {
    async attachRun({ run, socketPath, mode = 0o600, tunnels }) {
      if (attachments.has(run)) throw new BelayError('ERR_USAGE', `run \`${run}\` is attached`);
      const attachment = createAttachment(run, tunnels);
      attachments.set(run, attachment);
      let server: Server | undefined;
      const detach = async (): Promise<void> => {
        detachments.delete(detach);
        attachments.delete(run);
        // Closed first: a socket that is accepted after the cut would outlive it.
        const closed = server === undefined ? undefined : close(server);
        cut(attachment);
        await closed;
      };
      detachments.add(detach);
      try {
        if (socketPath !== undefined) {
          server = await listenForBridge(attachment, socketPath, mode, {
            enter,
            report,
            onDns,
            lineTimeoutMs: limits.lineTimeoutMs,
            maxSockets: limits.maxSocketsPerRun,
          });
        }
      } catch (error) {
        await detach();
        throw error;
      }
      return { detach };
    },

    async listenProxy(options) {
      const proxy = await listenForProxy(options, {
        attachmentOf: (run) => attachments.get(run),
        enter,
        serve,
        report,
        http: limits,
        maxSockets: limits.maxSocketsPerRun,
      });
      proxies.add(proxy);
      return proxy;
    },

    cutRun(run) {
      const attachment = attachments.get(run);
      if (attachment !== undefined) cut(attachment);
    },

    stats() {
      let open = 0;
      let calls = 0;
      for (const attachment of attachments.values()) {
        open += attachment.sockets.size;
        for (const connection of attachment.connections) calls += connection.calls.size;
      }
      return { runs: attachments.size, connections: open, calls };
    },

    async [Symbol.asyncDispose]() {
      await Promise.all([...proxies].map((proxy) => proxy.close()));
      await Promise.all([...detachments].map((detach) => detach()));
      http.close();
    },
  };
}

/** `close` calls back only when every accepted socket is gone. */
function close(server: Server): Promise<void> {
  return new Promise((resolve) => void server.close(() => resolve()));
}
