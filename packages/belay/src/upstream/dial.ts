// Opens one connection to an address that was checked, and for https proves that the name's owner
// is at the other end. The addresses of an answer are tried in their order, none outside of it.

import { isIP, connect as netConnect, type Socket } from 'node:net';
import {
  checkServerIdentity,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  type TLSSocket,
  connect as tlsConnect,
} from 'node:tls';
import { isAddress, type Target } from '../core/target.ts';
import { codeOf, failure, wordsFor } from './failure.ts';

/** Starts a connection to an address and a port; never resolves a name. */
export type Dial = (address: string, port: number) => Socket;

export const tcpDial: Dial = (address, port) =>
  netConnect({
    host: address,
    port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
  });

/** Trusts one authority alone, or the public ones and `roots`. */
export function secureContext(
  ca: string | undefined,
  roots: readonly string[] = [],
): SecureContext {
  const own = roots.length === 0 ? undefined : [...getCACertificates('default'), ...roots];
  const trusted = ca ?? own;
  return createSecureContext({
    minVersion: 'TLSv1.2',
    ...(trusted === undefined ? {} : { ca: trusted }),
  });
}

export interface Destination {
  readonly target: Target;
  readonly port: number;
  /** Present for https. */
  readonly secureContext: SecureContext | undefined;
  readonly connectTimeoutMs: number;
}

/** A connected, and for https verified, socket; rejects with ERR_UPSTREAM or ERR_UPSTREAM_TLS. */
export async function open(
  dial: Dial,
  addresses: readonly string[],
  to: Destination,
): Promise<Socket> {
  let last: unknown;
  for (const address of addresses) {
    let socket: Socket;
    try {
      socket = await connected(dial(address, to.port), 'connect', to.connectTimeoutMs);
    } catch (error) {
      last = error;
      continue;
    }
    return to.secureContext === undefined ? socket : verified(socket, to, to.secureContext);
  }
  const { host } = to.target;
  throw failure('upstream.unreachable', `\`${host}\` cannot be reached: ${wordsFor(last)}`);
}

async function verified(raw: Socket, to: Destination, context: SecureContext): Promise<TLSSocket> {
  const { host } = to.target;
  const socket = tlsConnect({
    socket: raw,
    secureContext: context,
    ALPNProtocols: ['http/1.1'],
    // RFC 6066 section 3: an address is not a server name.
    servername: isAddress(host) ? '' : host,
    rejectUnauthorized: true,
    checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate),
  });
  try {
    return await connected(socket, 'secureConnect', to.connectTimeoutMs);
  } catch (error) {
    // A reset or a silence in the handshake says nothing about the certificate.
    const code = codeOf(error);
    if (code === 'ECONNRESET' || code === 'ETIMEDOUT' || code === 'EPIPE') {
      const why = `${wordsFor(error)} during the TLS handshake`;
      throw failure('upstream.unreachable', `\`${host}\` cannot be reached: ${why}`);
    }
    throw failure('upstream.tls', `the certificate of \`${host}\` is refused: ${tlsWords(error)}`);
  }
}

function tlsWords(error: unknown): string {
  const code = codeOf(error);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'it is for other names';
  if (code === 'CERT_HAS_EXPIRED') return 'it has expired';
  if (/SELF_SIGNED|UNABLE_TO_/.test(code)) return 'no trusted authority signed it';
  return code === '' ? wordsFor(error) : code;
}

function connected<S extends Socket>(
  socket: S,
  event: 'connect' | 'secureConnect',
  timeoutMs: number,
): Promise<S> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy(Object.assign(new Error('timed out'), { code: 'ETIMEDOUT' }));
    }, timeoutMs);
    const onError = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    socket.once('error', onError);
    socket.once(event, () => {
      clearTimeout(timer);
      socket.off('error', onError);
      // Between here and its first user a socket may still break; that user sees it destroyed.
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** `IP`, `IP:PORT` or `[IP]:PORT`, as a declared upstream writes it. */
export function parseDialAddress(
  text: string,
  defaultPort: number,
): { readonly address: string; readonly port: number } | undefined {
  if (isIP(text) !== 0) return { address: text, port: defaultPort };
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text);
  const address = match?.[1] ?? match?.[2] ?? '';
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  if (isIP(address) === 0 || port < 1 || port > 65_535) return undefined;
  return { address, port };
}
