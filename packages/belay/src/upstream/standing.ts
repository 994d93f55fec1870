// Connections that stay with one call: a WebSocket, and tunnels of any kind of bytes. The call's body is
// what goes out on it, the answer's body what comes back. Whatever ends it early resets it: what the
// kernel still had to send stays here.

import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { ByteSource } from '../core/call.ts';
import { BelayError } from '../core/errors.ts';
import { hostPort } from '../core/target.ts';
import { errorOf, failedBy } from './failure.ts';
import { answerHeaders } from './hop-by-hop.ts';
import { failed, type SendResult, type UpstreamRequest } from './request.ts';

/** Carries a call on a connection of its own. `ended` is called once, when it is gone. */
export async function stand(
  connect: () => Promise<Socket>,
  request: UpstreamRequest,
  answerTimeoutMs: number,
  ended: () => void,
): Promise<SendResult> {
  const { signal, stopped, target } = request;
  let socket: Socket;
  try {
    socket = await connect();
  } catch (error) {
    ended();
    return failedBy(error, false, target.host);
  }
  socket.once('close', ended);
  // INVARIANT: I4: the client may have left, or a stop landed, while the connection was made.
  const why = signal.aborted ? clientLeft() : stopped();
  if (why !== undefined) {
    reset(socket);
    return failedBy(why, false, target.host);
  }
  if (request.kind === 'tunnel') {
    return { kind: 'response', status: 200, headers: [], body: bothWays(socket, request) };
  }
  return handshake(socket, request, answerTimeoutMs);
}

/** The handshake of a WebSocket; an upstream that does not take it answers like any other. */
function handshake(
  socket: Socket,
  request: UpstreamRequest,
  answerTimeoutMs: number,
): Promise<SendResult> {
  const { signal, target } = request;
  return new Promise((resolve) => {
    const asked = httpRequest({
      createConnection: () => socket,
      method: request.method,
      path: request.pathAndQuery,
      headers: [
        ...['host', authority(request)],
        ...['connection', 'upgrade', 'upgrade', 'websocket'],
        ...request.headers.filter(([name]) => name !== 'host').flat(),
      ],
      setHost: false,
      maxHeaderSize: 64 * 1024,
      insecureHTTPParser: false,
    });
    const fail = (error: unknown): void => {
      settle();
      reset(socket);
      resolve(failedBy(error, true, target.host));
    };
    const onAbort = (): void => fail(clientLeft());
    const timer = setTimeout(
      () => fail(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })),
      answerTimeoutMs,
    );
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    asked.on('error', fail);
    asked.on('upgrade', (answer: IncomingMessage, _socket, head: Buffer) => {
      settle();
      if (head.length > 0) socket.unshift(head);
      const headers = answerHeaders(answer.rawHeaders);
      const body = bothWays(socket, request);
      resolve({ kind: 'response', status: 101, headers, body });
    });
    asked.on('response', (answer) => {
      settle();
      const headers = answerHeaders(answer.rawHeaders);
      const status = answer.statusCode as number;
      resolve({ kind: 'response', status, headers, body: whatComes(answer, socket) });
    });
    asked.end();
  });
}

function authority({ target }: UpstreamRequest): string {
  const usual = target.scheme === 'https' ? 443 : 80;
  const whole = hostPort(target);
  return target.port === usual ? whole.slice(0, whole.lastIndexOf(':')) : whole;
}

/** What comes back, while the request's body goes out. */
function bothWays(socket: Socket, { body }: UpstreamRequest): ByteSource {
  const { flow } = whatComes(socket, socket);
  return {
    flow(sink) {
      const back = flow(sink);
      if (body.kind === 'streamed') {
        send(body.source, socket).catch((error) => {
          // A stop or a cap, or the client left; else the socket's own end says why.
          if (!(error instanceof BelayError) || socket.destroyed) return;
          back.abort(error);
          sink.fail(error);
        });
      }
      return back;
    },
  };
}

async function send(source: AsyncIterable<Uint8Array>, socket: Socket): Promise<void> {
  for await (const chunk of source) {
    if (socket.destroyed) return;
    if (!socket.write(chunk)) await room(socket);
  }
  socket.end();
}

/** Resolves when a socket takes more, or never will. */
function room(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
  });
}

function whatComes(from: Readable, socket: Socket): ByteSource {
  return {
    flow(sink) {
      let over = false;
      const once = (act: () => void): void => {
        if (over) return;
        over = true;
        act();
      };
      const broken = (error?: unknown): void =>
        once(() => {
          socket.destroy();
          sink.fail(errorOf(failed('upstream.broken', `the upstream broke off${wordOf(error)}`)));
        });
      from.on('data', (chunk: Buffer) => {
        if (!over && !sink.write(chunk)) from.pause();
      });
      from.once('end', () =>
        once(() => {
          sink.end();
          socket.destroySoon();
        }),
      );
      from.once('error', broken);
      from.once('close', () => broken());
      // It may have broken before anyone could listen.
      if (socket.destroyed) queueMicrotask(broken);
      return {
        resume: () => void from.resume(),
        abort: () => once(() => reset(socket)),
      };
    },
  };
}

function wordOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === undefined ? '' : `: ${code}`;
}

function clientLeft(): BelayError {
  return new BelayError('ERR_ABORTED', 'the client went away');
}

/** Under TLS there is no reset to be had: what TLS still held stays here. */
function reset(socket: Socket): void {
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}
