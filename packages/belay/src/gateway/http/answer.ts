// Writes what became of a call to its client: a response with back-pressure both ways, or a denial
// in a small body. Nothing is written once the client is gone, and a connection is kept only when
// the request was read to its end.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Headers, Response } from '../../core/call.ts';
import type { DenyCode, Told } from '../../core/verdict.ts';
import { isHopByHop } from '../../upstream/hop-by-hop.ts';
import type { Connection, OpenCall } from '../connection.ts';
import { breakOff, passOn } from '../flow.ts';
import { denialBody } from './denial-body.ts';

/** How long, and how much of, an unread request is read away so that its client sees the answer. */
const LINGER_MS = 1_000;
const LINGER_BYTES = 4 << 20;

/** Names the reason of a denial. */
const DENIED = 'x-belay-denied';

/** One request and the place of its answer. */
export interface Ask {
  readonly connection: Connection;
  readonly request: IncomingMessage;
  readonly reply: ServerResponse;
  readonly hasBody: boolean;
  /** The answer has left whole: the next request of its connection may be taken up. */
  readonly done: () => void;
}

/** Passes a response on, and ends the call with its last byte. */
export function respond(ask: Ask, call: OpenCall, response: Response): void {
  const { connection, reply } = ask;
  if (connection.open) {
    reply.sendDate = false;
    reply.writeHead(response.status, fieldsOf(response.headers));
  }
  passOn(connection, call, response.body, reply, (trailers) => {
    if (trailers !== undefined) reply.addTrailers(trailersOf(trailers));
    finish(ask);
  });
  // What was there already has gone out with the head by now, in one write. A body that is still to
  // come, as of a stream of events, does not hold the head back.
  queueMicrotask(() => {
    // Not `flushHeaders`: it writes the head in UTF-8, and fields are bytes.
    if (!call.moved && connection.open) reply.write('', 'latin1');
  });
}

/** Answers that the connection is a WebSocket now, and passes on what comes. */
export function switchOver(ask: Ask, call: OpenCall, response: Response): void {
  const { connection, reply } = ask;
  const socket = reply.socket as Socket;
  if (connection.open) {
    reply.sendDate = false;
    const fields = ['connection', 'upgrade', 'upgrade', 'websocket'];
    reply.writeHead(101, [...fields, ...fieldsOf(response.headers)]);
    reply.flushHeaders();
    reply.detachSocket(socket);
  }
  passOn(connection, call, response.body, socket, () => socket.destroySoon());
}

function fieldsOf(headers: Headers): string[] {
  const fields: string[] = [];
  for (const [name, value] of headers) {
    // Ours alone: an upstream cannot make an answer of its own look like a denial.
    if (name !== DENIED) fields.push(name, value);
  }
  return fields;
}

/** RFC 9110 section 6.5.1: nothing that frames, routes or authenticates. */
const NO_TRAILER = /^(?:content-.*|transfer-encoding|host|authorization|set-cookie|cache-control)$/;

function trailersOf(trailers: Headers): readonly [string, string][] {
  return trailers
    .filter(([name]) => name !== DENIED && !isHopByHop(name) && !NO_TRAILER.test(name))
    .map(([name, value]) => [name, value]);
}

/** Tells a client that its call was refused: terse (I8), and final for those who would retry. */
export function refuse(ask: Ask, code: DenyCode, told: Told): void {
  const { connection, request, reply, hasBody } = ask;
  if (!connection.open) return;
  if (reply.headersSent) {
    breakOff(connection);
    return;
  }
  const { type, body } = denialBody(request.url ?? '', code, told);
  const fields = [
    'content-type',
    type,
    'content-length',
    String(body.length),
    DENIED,
    code,
    'x-should-retry',
    'false',
  ];
  if (hasBody && !request.complete) fields.push('connection', 'close');
  reply.writeHead(told.status, fields);
  finish(ask, body);
}

/**
 * Ends an answer. While the request is still arriving, a close would reset the connection under the
 * answer, so the rest is read away first, within limits.
 */
function finish({ request, reply, hasBody, done }: Ask, last?: Buffer): void {
  if (!hasBody || request.complete) {
    // Not sooner: an answer that has no socket yet would say `100` behind its own head.
    if (last === undefined) reply.end(done);
    else reply.end(last, done);
    return;
  }
  if (last !== undefined) reply.write(last);
  let left = LINGER_BYTES;
  let ended = false;
  const end = (): void => {
    if (ended) return;
    ended = true;
    clearTimeout(timer);
    reply.end(() => {
      if (!request.complete) request.socket.destroySoon();
      done();
    });
  };
  const timer = setTimeout(end, LINGER_MS);
  request
    .on('data', (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) end();
    })
    .once('end', end)
    .once('close', end)
    .resume();
}
