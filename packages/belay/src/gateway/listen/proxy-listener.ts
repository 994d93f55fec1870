// The explicit proxy, for agents that run outside a sandbox: CONNECT, and absolute form for plain
// HTTP. A run is known by its credentials, which git and curl send only after a 407. A host that
// policy will deny is still connected to here: the refusal comes inside TLS, where it is heard.

import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { BelayError } from '../../core/errors.ts';
import type { RunId } from '../../core/ids.ts';
import {
  type Attachment,
  type Connection,
  openConnection,
  owesAnswer,
  type Report,
} from '../connection.ts';
import { breakOff } from '../flow.ts';
import { parseAuthority } from '../http/head.ts';
import type { Serve } from '../http/serve.ts';
import {
  createHttpServer,
  endWith,
  type HttpLimits,
  type HttpParts,
  syntaxError,
} from '../http/server.ts';
import { track } from './bridge-listener.ts';
import type { Enter } from './road.ts';

export interface ProxyOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Compares in constant time; null: not these credentials at the proxy on `host:port`. */
  authenticate(listener: string, user: string, password: string): RunId | null;
}

export interface ProxyListener {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

export interface ProxyParts {
  readonly attachmentOf: (run: RunId) => Attachment | undefined;
  readonly enter: Enter;
  readonly serve: Serve;
  readonly report: Report;
  readonly http: HttpLimits;
  readonly maxSockets: number;
}

const CHALLENGE = 'proxy-authenticate: Basic realm="belay"\r\n';

/** Rejects with ERR_HOST when the port is taken. */
export async function listenForProxy(
  options: ProxyOptions,
  parts: ProxyParts,
): Promise<ProxyListener> {
  const connections = new WeakMap<object, Connection>();
  const sockets = new Set<Socket>();
  let listener = '';

  const attachmentFor = (request: IncomingMessage): Attachment | undefined => {
    const credentials = parseBasic(request.headers['proxy-authorization']);
    if (credentials === undefined) return undefined;
    const run = options.authenticate(listener, credentials.user, credentials.password);
    return run === null ? undefined : parts.attachmentOf(run);
  };

  /** In the place of an answer that is still to come, what we say would be that answer. */
  const tooSoon = (connection: Connection, what: string): void => {
    const { run } = connection.attachment;
    parts.report({ run, host: '', port: 0, reason: `${what} behind a request without an answer` });
    breakOff(connection);
  };

  const onRequest: HttpParts['onRequest'] = (request, reply) => {
    const attachment = attachmentFor(request);
    if (attachment === undefined) {
      reply.writeHead(407, {
        'proxy-authenticate': 'Basic realm="belay"',
        'content-length': '0',
        connection: 'close',
      });
      reply.end();
      return;
    }
    const { socket } = request;
    let connection = connections.get(socket);
    if (connection === undefined) {
      track(attachment, socket);
      connection = openConnection(attachment, socket, undefined);
      connections.set(socket, connection);
    } else if (connection.attachment !== attachment) {
      // One connection, one run: what is cut with a run must be that run's alone.
      socket.destroy();
      return;
    }
    parts.serve.request(connection, request, reply);
  };
  const server: Server = createHttpServer(parts.http, {
    connections,
    onRequest,
    onOverrun: parts.serve.overrun,
  });
  server.maxConnections = parts.maxSockets;

  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('connect', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => {}); // 'close' follows
    const attachment = attachmentFor(request);
    if (attachment === undefined) {
      return endWith(socket, '407 Proxy Authentication Required', CHALLENGE);
    }
    const known = connections.get(socket);
    if (known !== undefined && known.attachment !== attachment) return void socket.destroy();
    if (known !== undefined && owesAnswer(known)) return tooSoon(known, 'CONNECT');
    const to = parseAuthority(request.url as string, undefined);
    if (typeof to === 'string') {
      parts.report({ run: attachment.run, host: '', port: 0, reason: `CONNECT: ${to}` });
      return endWith(socket, '400 Bad Request');
    }
    if (known === undefined) track(attachment, socket);
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
    if (head.length > 0) socket.unshift(head);
    parts.enter(attachment, socket, to);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const found = syntaxError(error);
    if (found === undefined) return void socket.destroy();
    const known = connections.get(socket);
    if (known !== undefined && owesAnswer(known)) tooSoon(known, found.reason);
    else endWith(socket, found.status);
  });

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(options.port, options.host, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const where = `${options.host}:${options.port}`;
    const taken = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message;
    throw new BelayError('ERR_HOST', `cannot listen on \`${where}\`: ${taken}`, {
      hint: 'choose another port',
      cause: error,
    });
  });
  const { address, port } = server.address() as AddressInfo;
  listener = `${address}:${port}`;
  return {
    host: address,
    port,
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => void server.close(() => resolve()));
    },
  };
}

/** RFC 7617; a password may hold colons, a user may not. */
function parseBasic(
  field: string | undefined,
): { readonly user: string; readonly password: string } | undefined {
  const match = /^basic +([A-Za-z0-9+/]{1,1400}={0,2})$/i.exec(field ?? '');
  if (match === null) return undefined;
  const text = Buffer.from(match[1] as string, 'base64').toString();
  const colon = text.indexOf(':');
  if (colon === -1) return undefined;
  return { user: text.slice(0, colon), password: text.slice(colon + 1) };
}
