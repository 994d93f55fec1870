// Bytes between a call and its client, with back-pressure both ways.

import type { Readable, Writable } from 'node:stream';
import type { ByteFlow, ByteSource, Headers } from '../core/call.ts';
import { BelayError } from '../core/errors.ts';
import { abandon, type Connection, endCall, type OpenCall } from './connection.ts';

/** What a client sends from now on, until it ends; throws ERR_ABORTED when it goes away. */
export async function* bytesOf(client: Readable): AsyncGenerator<Uint8Array> {
  try {
    // The client outlives its reader: its connection still has to carry what comes back.
    for await (const chunk of client.iterator({ destroyOnReturn: false })) yield chunk as Buffer;
  } catch {
    throw clientLeft();
  }
}

/** Moves a body to its client; `end` ends the answer, once the whole of it has passed. */
export function passOn(
  connection: Connection,
  call: OpenCall,
  body: ByteSource,
  to: Writable,
  end: (trailers: Headers | undefined) => void,
): void {
  if (!connection.open) {
    // The client left while the monitor was at work: the flow is ended so that it is settled.
    body.flow({ write: () => false, end() {}, fail() {} }).abort(clientLeft());
    return;
  }
  let listening = false;
  const flow: ByteFlow = body.flow({
    write(chunk) {
      // INVARIANT: a client that is gone is never written to: no drain would ever come of it.
      if (!connection.open) return false;
      call.moved = true;
      if (to.write(chunk)) return true;
      if (!listening) {
        listening = true;
        to.on('drain', () => flow.resume());
      }
      return false;
    },
    end(trailers) {
      call.moved = true;
      endCall(connection, call);
      if (connection.open) end(trailers);
    },
    fail() {
      endCall(connection, call);
      // The only way to say that the rest is missing.
      breakOff(connection);
    },
  });
  call.flow = flow;
}

export function breakOff(connection: Connection): void {
  abandon(connection);
  connection.socket.destroy();
}

export function clientLeft(): BelayError {
  return new BelayError('ERR_ABORTED', 'the client went away');
}
