// The HTTP/1 parser that every client connection is handed to: Node's own, strict, with bounded
// heads and times. Upgrades are ordinary requests here, and refused as such.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

export interface HttpLimits {
  readonly headersTimeoutMs: number;
  readonly keepAliveMs: number;
}

export type OnRequest = (request: IncomingMessage, reply: ServerResponse) => void;

export function createHttpServer(limits: HttpLimits, onRequest: OnRequest): Server {
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
  };
  const server = createServer(options, onRequest);
  // Past a limit node:http drops fields in silence; the size of the head is the limit here.
  server.maxHeadersCount = 0;
  server.on('checkContinue', onRequest);
  server.on('checkExpectation', onRequest);
  return server;
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

/** A last answer on a raw socket, then its end. */
export function endWith(socket: Duplex, status: string, fields = ''): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(`HTTP/1.1 ${status}\r\n${fields}connection: close\r\ncontent-length: 0\r\n\r\n`);
}
