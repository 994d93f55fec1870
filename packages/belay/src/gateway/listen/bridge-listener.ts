// One unix socket per run. Whoever reaches it is that run: the socket is the identity, nothing that
// comes through it can claim another. Each connection begins with the bridge's line.

import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { asBelayError } from '../../core/errors.ts';
import type { RunId } from '../../core/ids.ts';
import { type Host, printable } from '../../core/target.ts';
import type { Attachment, Report } from '../connection.ts';
import { MAX_LINE_BYTES, parseBridgeHeader } from './bridge-header.ts';
import { readLine } from './peek.ts';
import type { Enter } from './road.ts';

export interface SeenQuery {
  readonly run: RunId;
  readonly name: string;
  readonly qtype: number;
}

export interface BridgeParts {
  readonly enter: Enter;
  readonly report: Report;
  readonly onDns: (query: SeenQuery) => void;
  readonly lineTimeoutMs: number;
  readonly maxSockets: number;
}

/** Listens at `path`, which must not exist; rejects with ERR_SANDBOX. */
export async function listenForBridge(
  attachment: Attachment,
  path: string,
  mode: number,
  parts: BridgeParts,
): Promise<Server> {
  const { run, sockets } = attachment;
  const { enter, report, onDns } = parts;
  let full = false;

  const onSocket = (socket: Socket): void => {
    if (sockets.size >= parts.maxSockets) {
      // Told once for each time that the limit is reached: an agent could write the ledger full.
      if (!full) report({ run, host: '', port: 0, reason: 'too many connections at once' });
      full = true;
      socket.destroy();
      return;
    }
    full = false;
    track(attachment, socket);
    readLine(socket, MAX_LINE_BYTES, parts.lineTimeoutMs, (line) => {
      const header = line === undefined ? undefined : parseBridgeHeader(line);
      if (header === undefined) {
        if (line !== undefined) {
          report({ run, host: '', port: 0, reason: 'a connection without a valid destination' });
        }
        socket.destroy();
        return;
      }
      if (header.kind === 'dns') {
        onDns({ run, name: printable(header.name), qtype: header.qtype });
        socket.end();
        socket.resume();
        return;
      }
      enter(attachment, socket, {
        host: header.name ?? (header.address as Host),
        port: header.port,
      });
    });
  };

  const server = createServer({ allowHalfOpen: true, pauseOnConnect: false }, onSocket);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(path, resolve);
    });
    await chmod(path, mode);
  } catch (error) {
    server.close();
    throw asBelayError('ERR_SANDBOX', `cannot listen for run \`${run}\``, error);
  }
  return server;
}

/** Keeps a socket in the run's books while it lives; its errors end it and nothing else. */
export function track({ sockets }: Attachment, socket: Socket): void {
  sockets.add(socket);
  socket.on('error', () => {}); // 'close' follows, and that is where the books are kept
  socket.once('close', () => sockets.delete(socket));
}
