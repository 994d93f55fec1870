// The HTTP/1 parser that every client connection is handed to: Node's own, strict, with bounded
// heads and times, and a bounded number of requests. The one upgrade that goes on is the handshake of
// a WebSocket; any other is an ordinary request here, and refused as such.

import { createServer, IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Connection, MOST_WAITING } from '../connection.ts';

export interface HttpLimits {
  readonly headersTimeoutMs: number;
  readonly keepAliveMs: number;
}

export interface HttpParts {
  /** By the socket of a request. */
  readonly connections: WeakMap<object, Connection>;
  readonly onRequest: (request: IncomingMessage, reply: ServerResponse) => void;
  /** The handshake of a WebSocket; absent: refused like every other upgrade. */
  readonly onWebSocket?: (connection: Connection, request: IncomingMessage, socket: Socket) => void;
  /** As many requests wait on the connection as may; the parser reads no more of it. */
  readonly onOverrun: (connection: Connection, request: IncomingMessage) => void;
}

export function createHttpServer(limits: HttpLimits, parts: HttpParts): Server {
  const { connections, onRequest, onWebSocket, onOverrun } = parts;
  const options = {
    insecureHTTPParser: false,
    maxHeaderSize: 16 * 1024,
    headersTimeout: limits.headersTimeoutMs,
    // A body may take as long as it likes; its bytes are bounded elsewhere.
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: Math.ceil(limits.headersTimeoutMs / 4),
    // A missing Host field is refused where the refusal is reported.
    requireHostHeader: false,
    noDelay: true,
    // A request without a body emits no stream events; not in the types of Node 24.10.
    optimizeEmptyRequests: true,
    IncomingMessage: endingParser(
      (socket) => (connections.get(socket)?.waiting.length ?? 0) >= MOST_WAITING,
      (request) => onWebSocket !== undefined && asksForWebSocket(request),
    ),
  };
  const server = createServer(options, onRequest);
  // Past a limit node:http drops fields in silence; the size of the head is the limit here.
  server.maxHeadersCount = 0;
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    const connection = connections.get(request.socket);
    if (connection === undefined) return void socket.destroy();
    // Behind other requests its answer would have to wait for theirs, which nobody does.
    if (connection.answering !== undefined || onWebSocket === undefined)
      return onOverrun(connection, request);
    if (head.length > 0) socket.unshift(head);
    onWebSocket(connection, request, socket);
  });
  return server;
}

/**
 * A chunk of 64 KiB holds more than a thousand requests, and Node's parser goes on to its end,
 * whatever becomes of the socket: a few hundred such sockets would fill a turn of many seconds. It
 * stops for an upgrade only, so that is what a request becomes which finds its connection `full`. Of
 * those that ask for an upgrade only the `wanted` ones are one.
 */
function endingParser(
  full: (socket: Socket) => boolean,
  wanted: (request: IncomingMessage) => boolean,
): typeof IncomingMessage {
  return class extends IncomingMessage {
    #full = false;
    #asked = false;
    get upgrade(): boolean {
      return this.#full || this.method === 'CONNECT' || (this.#asked && wanted(this));
    }
    /** Node sets null when it constructs, and what it found when the head is complete. */
    set upgrade(found: boolean | null) {
      if (found === null) return;
      this.#full = full(this.socket);
      this.#asked = found;
    }
  };
}

/** RFC 6455 section 4.1, and nothing beside it: no body, no other protocol. */
function asksForWebSocket({ method, httpVersion, headers }: IncomingMessage): boolean {
  const key = headers['sec-websocket-key'] ?? '';
  return (
    method === 'GET' &&
    httpVersion === '1.1' &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    headers['sec-websocket-version'] === '13' &&
    /^[A-Za-z0-9+/]{22}==$/.test(String(key)) &&
    headers['content-length'] === undefined &&
    headers['transfer-encoding'] === undefined
  );
}

/** Lets a server that never listens enforce its timeouts; sockets come through `take`. */
export function startWithoutListening(server: Server): void {
  // node:http starts the check of its timeouts on this event.
  server.emit('listening');
}

/** Hands a connected socket to the server. Call `resume` on it after, when it was paused. */
export function take(server: Server, socket: Duplex): void {
  server.emit('connection', socket);
}

/** What a parser's error says, or undefined when only the connection broke. */
export function syntaxError(
  error: NodeJS.ErrnoException,
): { readonly status: string; readonly reason: string } | undefined {
  const { code = '' } = error;
  if (code === 'HPE_HEADER_OVERFLOW') {
    return { status: '431 Request Header Fields Too Large', reason: 'the head is over 16 KiB' };
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return { status: '408 Request Timeout', reason: 'the head did not arrive in time' };
  }
  if (!code.startsWith('HPE_') || code === 'HPE_INVALID_EOF_STATE') return undefined;
  return { status: '400 Bad Request', reason: `not HTTP/1.1: ${code}` };
}

/** How long a client may take to read a last answer, and to end its own side. */
const LINGER_MS = 1_000;

/** A last answer on a raw socket, then its end, whether or not the client ends too. */
export function endWith(socket: Duplex, status: string, fields = ''): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(`HTTP/1.1 ${status}\r\n${fields}connection: close\r\ncontent-length: 0\r\n\r\n`);
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
}
