// A connection that is passed on as it is: TLS of a host that keeps its own, and raw TCP, where a
// grant names host and port. It is one Call, metered and stopped like any other; what is said on it is
// not looked into, and the ledger says so by the call's kind.

import type { Socket } from 'node:net';
import type { Call, Result } from '../core/call.ts';
import { reasonOf } from '../core/errors.ts';
import { type CallId, type Clock, type Random, uuid7 } from '../core/ids.ts';
import type { Target } from '../core/target.ts';
import {
  type Attachment,
  endCall,
  openCall,
  openConnection,
  type Report,
  reset,
} from './connection.ts';
import { bytesOf, passOn } from './flow.ts';

export interface TunnelParts {
  readonly perform: (call: Call) => Promise<Result>;
  readonly report: Report;
  readonly clock: Clock;
  readonly random: Random;
}

/** Takes a socket at the beginning of the client's own bytes. */
export type EnterTunnel = (attachment: Attachment, socket: Socket, target: Target) => void;

export function createTunnels({ perform, report, clock, random }: TunnelParts): EnterTunnel {
  return (attachment, socket, target) => {
    const connection = openConnection(attachment, socket, target);
    const call = openCall(connection);
    perform({
      id: uuid7(clock(), random) as CallId,
      run: attachment.run,
      kind: 'tunnel',
      target,
      method: 'CONNECT',
      path: '/',
      query: '',
      headers: [],
      body: { kind: 'streamed', source: bytesOf(socket) },
      signal: call.abort.signal,
    })
      .then((result) => {
        if (result.kind === 'response') {
          passOn(connection, call, result.body, socket, () => socket.destroySoon());
          return;
        }
        // There is no word in which bytes of any kind could be refused.
        endCall(connection, call);
        reset(socket);
      })
      .catch((error) => {
        // INVARIANT: I7: a fault of ours denies the call.
        endCall(connection, call);
        const { host, port } = target;
        report({ run: attachment.run, host, port, reason: `a fault: ${reasonOf(error)}` });
        reset(socket);
      });
  };
}
