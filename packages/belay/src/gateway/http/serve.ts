// One request's way through the gateway: head, body, Call, `perform`, answer. Decides nothing: what
// it refuses by itself has no single meaning as HTTP, and is reported so that it reaches the ledger.

import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Call, Result } from '../../core/call.ts';
import { type BelayError, reasonOf, unreachable } from '../../core/errors.ts';
import { type CallId, type Clock, type Random, uuid7 } from '../../core/ids.ts';
import { printable } from '../../core/target.ts';
import { type Connection, endCall, type OpenCall, openCall, type Report } from '../connection.ts';
import { breakOff, bytesOf } from '../flow.ts';
import { createSlices, inLine } from '../git/proofs.ts';
import { type FirstBytes, isPush, PUSH_BYTES, readPush } from '../git/push.ts';
import { type Ask, refuse, respond, switchOver } from './answer.ts';
import { NO_BODY, type ReadBody, readBody } from './body.ts';
import { type Head, parseHead } from './head.ts';

export interface ServeParts {
  readonly perform: (call: Call) => Promise<Result>;
  readonly report: Report;
  readonly clock: Clock;
  readonly random: Random;
}

export interface Serve {
  request(connection: Connection, request: IncomingMessage, reply: ServerResponse): void;
  /** A request that makes its connection a WebSocket; the socket is the caller's no more. */
  webSocket(connection: Connection, request: IncomingMessage, socket: Socket): void;
  /** A request came that is one too many to wait: its connection is closed. */
  overrun(connection: Connection, request: IncomingMessage): void;
}

/** A push that was read, and its place in the books since before that. */
interface ReadPush {
  readonly open: OpenCall;
  readonly push: NonNullable<Call['push']>;
}

export function createServe({ perform, report, clock, random }: ServeParts): Serve {
  const nextSlice = createSlices();

  // One at a time on each connection: what a client sends ahead comes in one piece, and thousands of
  // calls in one turn would keep every other run, and the beat of the guard, waiting.
  function serve(connection: Connection, request: IncomingMessage, reply: ServerResponse): void {
    if (connection.answering !== undefined) {
      connection.waiting.push(() => start(connection, request, reply));
      return;
    }
    start(connection, request, reply);
  }

  function next(connection: Connection): void {
    const waiting = connection.waiting.shift();
    if (waiting === undefined) connection.answering = undefined;
    else waiting();
  }

  function start(
    connection: Connection,
    request: IncomingMessage,
    reply: ServerResponse,
    kind: 'http' | 'websocket' = 'http',
  ): void {
    connection.answering = reply;
    if (connection.misdirected !== undefined) {
      refuseEarly(connection, request, reply, 421, connection.misdirected);
      return;
    }
    const head = parseHead(request, connection.target, kind);
    if (head.kind === 'refused') {
      refuseEarly(connection, request, reply, head.status, head.reason);
      return;
    }
    const hasBody = head.bodyBytes !== 0;
    const ask: Ask = { connection, request, reply, hasBody, done: () => next(connection) };
    if (kind === 'websocket') {
      const source = bytesOf(request.socket);
      begin(ask, head, { body: { kind: 'streamed', source }, heldBytes: 0 }, kind);
      return;
    }
    const push = isPush(head);
    if (!hasBody && !push) {
      begin(ask, head, NO_BODY, kind);
      return;
    }
    const proceed = (): void => {
      if (head.expectsContinue && connection.open && !reply.headersSent) reply.writeContinue();
    };
    const { attachment } = connection;
    const reading = hasBody
      ? readBody(request, head.bodyBytes, attachment, proceed, push ? PUSH_BYTES : 0)
      : Promise.resolve(NO_BODY);
    reading.then(
      (read) => (push ? beginPush(ask, head, read) : begin(ask, head, read, kind)),
      (error: BelayError) => {
        // A client that left before its request was whole: there is no call.
        if (error.code !== 'ERR_PROTOCOL') return;
        refuseEarly(connection, request, reply, 400, error.message);
      },
    );
  }

  async function beginPush(ask: Ask, head: Head, read: ReadBody): Promise<void> {
    const { connection, request } = ask;
    const { attachment } = connection;
    if (!connection.open) {
      attachment.bufferedBytes -= read.heldBytes;
      return;
    }
    // On the books before it is read: with its client goes what it holds.
    const open = openCall(connection, read.heldBytes);
    const { signal } = open.abort;
    const pause = async (): Promise<void> => {
      await nextSlice();
      signal.throwIfAborted();
    };
    const push = await readPush(head, firstOf(read), (follow) =>
      inLine(attachment.proofs, signal, () => follow(pause)),
    )
      // INVARIANT: I7: a fault of ours makes it a push that nobody can permit.
      .catch((error) => ({ kind: 'unreadable', reason: `a fault: ${reasonOf(error)}` }) as const);
    if (!signal.aborted) begin(ask, head, read, 'http', { open, push });
    else if (!attachment.cut.has(connection.socket)) {
      reportOn(connection, request, 'a push whose client left while it was read');
    }
  }

  function begin(
    ask: Ask,
    head: Head,
    { body, heldBytes }: ReadBody,
    kind: 'http' | 'websocket',
    read?: ReadPush,
  ): void {
    const { connection } = ask;
    const { attachment } = connection;
    if (!connection.open) {
      attachment.bufferedBytes -= heldBytes;
      return;
    }
    const { method, target, path, query, headers } = head;
    const now = clock();
    const id = uuid7(now, random) as CallId;
    const pathAndQuery = query === '' ? path : `${path}?${query}`;
    const retryOf = attachment.retries.note(id, now, method, target, pathAndQuery, body);
    const open = read?.open ?? openCall(connection, heldBytes);
    const call = {
      id,
      run: attachment.run,
      kind,
      target,
      method,
      path,
      query,
      headers,
      body,
      signal: open.abort.signal,
      ...(read === undefined ? {} : { push: read.push }),
    };
    perform(retryOf === undefined ? call : { ...call, retryOf })
      .then((result) => {
        switch (result.kind) {
          case 'response':
            return kind === 'websocket' && result.status === 101
              ? switchOver(ask, open, result)
              : respond(ask, open, result);
          case 'denied':
            endCall(connection, open);
            return refuse(ask, result.denial.code, result.denial.told);
          default:
            return unreachable(result);
        }
      })
      .catch((error) => {
        // INVARIANT: I7: a fault of ours denies the call.
        endCall(connection, open);
        open.abort.abort();
        const { host, port } = target;
        report({ run: attachment.run, host, port, reason: `a fault: ${reasonOf(error)}` });
        refuse(ask, 'protocol', { status: 503, message: 'the call could not be carried out' });
      });
  }

  /** What cannot become a Call: reported, because the monitor never sees it. */
  function refuseEarly(
    connection: Connection,
    request: IncomingMessage,
    reply: ServerResponse,
    status: number,
    reason: string,
  ): void {
    reportOn(connection, request, reason);
    const { headers } = request;
    const length = headers['content-length'] ?? '0';
    const hasBody = headers['transfer-encoding'] !== undefined || length !== '0';
    const message = `the request was refused: ${reason}`;
    // Nothing was waited for: at once, all that was sent ahead would be refused in this turn.
    const done = (): void => void setImmediate(() => next(connection));
    const ask: Ask = { connection, request, reply, hasBody, done };
    refuse(ask, 'protocol', { status, message });
  }

  function reportOn(
    { attachment, target }: Connection,
    { headers }: IncomingMessage,
    reason: string,
  ): void {
    const { host, port } = target ?? {
      host: printable((headers.host ?? '').slice(0, 253)),
      port: 0,
    };
    report({ run: attachment.run, host, port, reason });
  }

  return {
    request: serve,
    webSocket(connection, request, socket) {
      // Node's parser has let go of the socket: what comes behind this answer is no request.
      const reply = new ServerResponse(request);
      reply.shouldKeepAlive = false;
      reply.assignSocket(socket);
      reply.on('finish', () => {
        if (reply.statusCode !== 101) socket.destroySoon();
      });
      start(connection, request, reply, 'websocket');
    },
    overrun(connection, request) {
      reportOn(connection, request, 'too many requests ahead of their answers');
      breakOff(connection);
    },
  };
}

/** What there is of a push to read it by. */
function firstOf({ body, first }: ReadBody): FirstBytes {
  switch (body.kind) {
    case 'none':
      return { kind: 'none' };
    case 'buffered': {
      const { buffer, byteOffset, length } = body.bytes;
      return { kind: 'read', bytes: Buffer.from(buffer, byteOffset, length), whole: true };
    }
    case 'streamed':
      return first === undefined
        ? { kind: 'unread' }
        : { kind: 'read', bytes: first, whole: false };
  }
}
