// From a raw client socket to HTTP requests: look at the first bytes, finish TLS where it is TLS,
// hand the rest to the HTTP parser. The destination is what DNS or CONNECT said; the TLS name is
// evidence only. The handshake is always finished, whatever policy will say, because agents take a
// refusal inside TLS as an answer and anything less as a fault. What never becomes HTTP is reported.

import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import {
  type Host,
  hostPort,
  isAddress,
  parseHost,
  printable,
  type Target,
} from '../../core/target.ts';
import {
  type Attachment,
  type Connection,
  openConnection,
  type Report,
  reset,
} from '../connection.ts';
import { take } from '../http/server.ts';
import type { EnterTunnel } from '../tunnel.ts';
import { readHello } from './client-hello.ts';
import { spokenIn } from './first-bytes.ts';
import { refuseHttp2 } from './http2-refusal.ts';
import type { LeafContexts } from './leaf-contexts.ts';
import { peek, peekUntil } from './peek.ts';

const PIECE_BYTES = 1_000;
const HTTP_2 = 'h2';
/** The first that a client offers too; who offers only the second is told that it is not. */
const SPOKEN = ['http/1.1', HTTP_2];

export interface RoadParts {
  readonly http: Server;
  /** Where the HTTP server finds the connection of a socket. */
  readonly connections: WeakMap<object, Connection>;
  readonly leaves: LeafContexts;
  readonly tunnel: EnterTunnel;
  readonly report: Report;
  readonly firstByteTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
}

export interface Destination {
  readonly host: Host;
  readonly port: number;
}

/** Takes a socket that is at the beginning of the client's own bytes. */
export type Enter = (attachment: Attachment, socket: Socket, to: Destination) => void;

export function createRoad(parts: RoadParts): Enter {
  const { http, connections, leaves, tunnel, report, firstByteTimeoutMs, handshakeTimeoutMs } =
    parts;

  function drop(attachment: Attachment, socket: Socket, to: Destination, reason: string): void {
    if (attachment.cut.has(socket)) return;
    report({ run: attachment.run, host: to.host, port: to.port, reason });
    reset(socket);
  }

  function turnAway(attachment: Attachment, socket: Socket, to: Destination): void {
    report({ run: attachment.run, host: to.host, port: to.port, reason: 'HTTP/2' });
    refuseHttp2(socket);
  }

  function enterTls(attachment: Attachment, socket: Socket, to: Destination): void {
    let misdirected: string | undefined;
    readInPieces(socket);
    const secure = new TLSSocket(socket, {
      isServer: true,
      ALPNCallback: ({ protocols }) => SPOKEN.find((name) => protocols.includes(name)),
      secureContext: leaves(to.host),
      SNICallback(asked, done) {
        const name = serverName(asked);
        if (name !== to.host) {
          misdirected = misnamed(asked, to);
        }
        done(null, leaves(name ?? to.host));
      },
    });
    let finished = false;
    const fail = (why: string): void => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      secure.destroy();
      drop(attachment, socket, to, `the TLS handshake failed: ${why}`);
    };
    const timer = setTimeout(() => fail('it took too long'), handshakeTimeoutMs);
    // Stays for the connection's life: a late error has nobody else to go to.
    secure.on('error', (error: NodeJS.ErrnoException) => fail(handshakeWords(error)));
    // A client may close half or whole: either way this handshake has no end.
    secure.once('end', () => fail('the client closed it'));
    secure.once('close', () => fail('the client closed it'));
    secure.once('secure', () => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      if (secure.alpnProtocol === HTTP_2) return turnAway(attachment, secure, to);
      const target: Target = { scheme: 'https', host: to.host, port: to.port };
      connections.set(secure, openConnection(attachment, socket, target, misdirected));
      take(http, secure);
    });
  }

  /** TLS of the client's own ends: of all that it says, its hello is looked at. */
  function passTls(attachment: Attachment, socket: Socket, to: Destination): void {
    const refuse = (why: string) => () => drop(attachment, socket, to, why);
    peekUntil(socket, firstByteTimeoutMs, (seen) => {
      if (seen === 'closed') return refuse('closed before its TLS began');
      if (seen === 'silent') return refuse('silence: not TLS');
      const hello = readHello(seen);
      if (hello.kind === 'more') return 'more';
      if (hello.kind === 'refused') return refuse(hello.reason);
      if (serverName(hello.serverName) === to.host) {
        return () => tunnel(attachment, socket, { scheme: 'tls', ...to });
      }
      return refuse(misnamed(hello.serverName, to));
    });
  }

  return (attachment, socket, to) => {
    switch (attachment.tunnels.get(hostPort(to))) {
      case 'tcp':
        return tunnel(attachment, socket, { scheme: 'tcp', ...to });
      case 'tls':
        return passTls(attachment, socket, to);
      case undefined:
        break;
    }
    peek(socket, firstByteTimeoutMs, (first) => {
      if (first === 'closed') return drop(attachment, socket, to, 'closed without a byte');
      if (first === 'silent') return drop(attachment, socket, to, 'silence: not TLS, not HTTP');
      const spoken = spokenIn(first);
      switch (spoken.kind) {
        case 'tls':
          return enterTls(attachment, socket, to);
        case 'http': {
          const target: Target = { scheme: 'http', host: to.host, port: to.port };
          connections.set(socket, openConnection(attachment, socket, target));
          take(http, socket);
          // The parser reads what arrives; what was put back flows only when it is told to.
          socket.resume();
          return;
        }
        case 'http2':
          return turnAway(attachment, socket, to);
        case 'other':
          return drop(attachment, socket, to, spoken.reason);
      }
    });
  };
}

/**
 * What a TLSSocket finds in its socket decides how much it keeps for the connection's life: the first
 * piece gets a buffer of at least 1 KiB, and a buffer that is full one of 16 KiB behind it. A hello in
 * pieces fills none; a client that sends more at once gets the second when it does.
 */
function readInPieces(socket: Socket): void {
  const read = socket.read.bind(socket);
  socket.read = (sizeBytes) => {
    return read(sizeBytes ?? (Math.min(PIECE_BYTES, socket.readableLength) || undefined));
  };
}

function misnamed(asked: string, to: Destination): string {
  return `the TLS name \`${printable(asked.slice(0, 253))}\` is not \`${to.host}\``;
}

function serverName(asked: string): Host | undefined {
  try {
    const name = parseHost(asked);
    return isAddress(name) ? undefined : name; // RFC 6066: an address is not a server name
  } catch {
    return undefined;
  }
}

function handshakeWords(error: NodeJS.ErrnoException): string {
  const code = error.code ?? '';
  if (/UNKNOWN_CA|CERTIFICATE_UNKNOWN|BAD_CERTIFICATE/.test(code)) {
    return 'the client does not trust the authority of this installation';
  }
  if (code === 'ECONNRESET') return 'the client closed it';
  if (/NO_APPLICATION_PROTOCOL/.test(code)) return 'the client does not speak HTTP/1.1';
  return code === '' ? 'not TLS' : code;
}
