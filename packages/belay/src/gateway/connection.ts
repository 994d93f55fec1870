// What the gateway keeps of a run and of each client connection while they last. A run's socket is
// its identity: everything that came through it is that run's, whatever it says about itself. When
// a connection goes, for whatever reason, every call on it is aborted, upstream side first.

import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ByteFlow } from '../core/call.ts';
import type { NetDenial } from '../core/entry.ts';
import { BelayError } from '../core/errors.ts';
import type { RunId } from '../core/ids.ts';
import type { Target, Tunnel } from '../core/target.ts';
import { createProofLine, type ProofLine } from './git/proofs.ts';
import { createRetries, type Retries } from './http/retries.ts';

/** Something refused below a Call; it has to reach the ledger all the same. */
export type ReportedDenial = Omit<NetDenial, 'type'>;
export type Report = (denial: ReportedDenial) => void;

/** The gateway's side of one run. */
export interface Attachment {
  readonly run: RunId;
  /** Every open socket, from the first moment on. */
  readonly sockets: Set<Socket>;
  readonly connections: Set<Connection>;
  /** Sockets that we closed ourselves: their end says nothing about the agent. */
  readonly cut: WeakSet<Socket>;
  readonly retries: Retries;
  /** Request bodies that are in memory; see http/body.ts. */
  bufferedBytes: number;
  /** The pushes that are being read. */
  readonly proofs: ProofLine;
  /** Which connections are passed on as they are, by `host:port`. */
  readonly tunnels: ReadonlyMap<string, Tunnel>;
}

export function createAttachment(
  run: RunId,
  tunnels: ReadonlyMap<string, Tunnel> = new Map(),
): Attachment {
  return {
    run,
    tunnels,
    sockets: new Set(),
    connections: new Set(),
    cut: new WeakSet(),
    retries: createRetries(),
    bufferedBytes: 0,
    proofs: createProofLine(),
  };
}

/** Requests that may wait on one connection behind the one in progress; apt sends ten ahead. */
export const MOST_WAITING = 16;

/** A call that is under way. */
export interface OpenCall {
  readonly abort: AbortController;
  /** The answer, once it flows. */
  flow: ByteFlow | undefined;
  /** Something of the answer's body, or its end, has passed. */
  moved: boolean;
  /** Of its request's body, read before it began: counted until it ends. */
  readonly heldBytes: number;
}

export interface Connection {
  readonly attachment: Attachment;
  readonly socket: Socket;
  /** Undefined on the explicit proxy, where each request names its own. */
  readonly target: Target | undefined;
  /** Why every request on it is refused: its TLS name contradicts its destination. */
  readonly misdirected: string | undefined;
  readonly calls: Set<OpenCall>;
  /** The answer to the one request that has been taken up. */
  answering: ServerResponse | undefined;
  /** Starts those that arrived behind it. */
  readonly waiting: (() => void)[];
  open: boolean;
}

/** Registers a connection; it leaves the books, and aborts its calls, when its socket closes. */
export function openConnection(
  attachment: Attachment,
  socket: Socket,
  target: Target | undefined,
  misdirected?: string,
): Connection {
  const connection: Connection = {
    attachment,
    socket,
    target,
    misdirected,
    calls: new Set(),
    answering: undefined,
    waiting: [],
    open: true,
  };
  attachment.connections.add(connection);
  socket.once('close', () => {
    abandon(connection);
    attachment.connections.delete(connection);
  });
  return connection;
}

/** Puts a call on the books of its connection. */
export function openCall({ calls }: Connection, heldBytes = 0): OpenCall {
  const call: OpenCall = { abort: new AbortController(), flow: undefined, moved: false, heldBytes };
  calls.add(call);
  return call;
}

/** Whether a request that arrived whole waits for its answer, or for the rest of it. */
export function owesAnswer({ answering, calls, waiting }: Connection): boolean {
  if (calls.size > 0 || waiting.length > 0) return true;
  return answering !== undefined && !answering.headersSent && answering.req.complete;
}

/** Takes a call off the books; a second time changes nothing. */
export function endCall({ calls, attachment }: Connection, call: OpenCall): void {
  if (calls.delete(call)) attachment.bufferedBytes -= call.heldBytes;
}

/** Ends every call of a connection, and lets no answer be written to it any more. */
export function abandon(connection: Connection): void {
  connection.open = false;
  connection.waiting.length = 0;
  if (connection.calls.size === 0) return;
  const gone = new BelayError('ERR_ABORTED', 'the client went away');
  for (const call of connection.calls) {
    endCall(connection, call);
    call.flow?.abort(gone);
    call.abort.abort(gone);
  }
}

/** Closes a socket at once: with a reset where the transport has one. */
export function reset(socket: Socket): void {
  // A unix socket has no reset, and Node throws when asked for one.
  if (socket.remoteFamily === undefined) socket.destroy();
  else socket.resetAndDestroy();
}

/** Cuts everything of a run. INVARIANT: I4: the upstream side goes first, so nothing more leaves. */
export function cut(attachment: Attachment): void {
  for (const connection of attachment.connections) abandon(connection);
  for (const socket of attachment.sockets) {
    attachment.cut.add(socket);
    reset(socket);
  }
}
