// The only door to the world (I1). A name is resolved here, every address is checked, the checked
// address is dialled, and over https the name is proven; then one request goes out, once. Nothing
// of one environment shares a connection with another. A connection that was checked when it was
// opened stays good for its lifetime; each new one is resolved and checked anew.

import { hash } from 'node:crypto';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { Pool } from 'undici';
import type { Clock } from '../core/ids.ts';
import { hostPort, type Target } from '../core/target.ts';
import { type Dial, open, parseDialAddress, secureContext, tcpDial } from './dial.ts';
import { exchange } from './exchange.ts';
import {
  type DeclaredUpstream,
  type DeclaredUpstreams,
  type Failed,
  failed,
  type SendResult,
  type UpstreamRequest,
} from './request.ts';
import {
  createLookup,
  hostAddresses,
  type OwnAddresses,
  type Resolve,
  systemResolve,
} from './resolve.ts';
import { stand } from './standing.ts';

/** What a run's configuration declares. */
export type Declared = DeclaredUpstreams;

export interface UpstreamOptions {
  /** Milliseconds; only differences matter. */
  readonly clock?: Clock;
  readonly resolve?: Resolve;
  readonly ownAddresses?: OwnAddresses;
  readonly dial?: Dial;
  /** Per address that is tried, and again for the TLS handshake. */
  readonly connectTimeoutMs?: number;
  /** Models may think for minutes before the first byte. */
  readonly headersTimeoutMs?: number;
  readonly bodyTimeoutMs?: number;
  /** Connections to one upstream of one environment. */
  readonly maxConnections?: number;
  /** Calls to one upstream that are under way or wait for a connection. */
  readonly maxInFlight?: number;
  /** Connections that stay with one call: WebSockets and tunnels. */
  readonly maxStanding?: number;
  readonly maxPools?: number;
  readonly idlePoolMs?: number;
  /** How long one answer of the resolver, or of the host about itself, serves new connections. */
  readonly resolveTtlMs?: number;
}

export interface Upstream extends AsyncDisposable {
  /** Never rejects. */
  send(request: UpstreamRequest): Promise<SendResult>;
  /** Authorities in PEM, trusted from now on beside the public ones, instead of those before. */
  trust(roots: readonly string[]): void;
  stats(): { readonly pools: number; readonly inFlight: number };
}

interface Entry {
  readonly pool: Pool;
  inFlight: number;
  idleSince: number;
  readonly ended: () => void;
}

export function createUpstream(options: UpstreamOptions = {}): Upstream {
  const {
    clock = () => performance.now(),
    resolve = systemResolve,
    ownAddresses = hostAddresses,
    dial = tcpDial,
    connectTimeoutMs = 10_000,
    headersTimeoutMs = 600_000,
    bodyTimeoutMs = 300_000,
    maxConnections = 256,
    maxInFlight = 4096,
    maxStanding = 4096,
    maxPools = 512,
    idlePoolMs = 60_000,
    resolveTtlMs = 2_000,
  } = options;
  const lookup = createLookup(resolve, ownAddresses, clock, {
    ttlMs: resolveTtlMs,
    maxNames: 1024,
  });
  const entries = new Map<string, Entry>();
  const tags = new WeakMap<DeclaredUpstream, string>();
  let publicTrust: SecureContext | undefined;
  let roots: readonly string[] = [];
  /** A connection that was verified under other roots serves no further call. */
  let trusted = 0;
  /** Connections that stay with one call. */
  const stays = new Set<Socket>();
  let standing = 0;
  let open_ = true;

  const track = (connect: () => Promise<Socket>) => async (): Promise<Socket> => {
    const socket = await connect();
    if (!open_) socket.destroy();
    stays.add(socket);
    socket.once('close', () => stays.delete(socket));
    return socket;
  };

  const closeIdle = (olderThan: number): void => {
    for (const [key, entry] of entries) {
      if (entry.inFlight > 0 || entry.idleSince > olderThan) continue;
      entries.delete(key);
      void entry.pool.destroy();
    }
  };
  const sweep = setInterval(() => closeIdle(clock() - idlePoolMs), idlePoolMs / 2);
  sweep.unref();

  function trustOf(declared: DeclaredUpstream | undefined): SecureContext {
    const ca = declared?.tls?.ca;
    if (ca !== undefined) return secureContext(ca);
    publicTrust ??= secureContext(undefined, roots);
    return publicTrust;
  }

  /** What a declaration adds to a pool's key: runs that declare the same thing share a pool. */
  function tagOf(declared: DeclaredUpstream): string {
    let tag = tags.get(declared);
    if (tag === undefined) {
      const ca = declared.tls?.ca;
      tag = ca === undefined ? declared.address : `${declared.address} ${hash('sha256', ca)}`;
      tags.set(declared, tag);
    }
    return tag;
  }

  /** Where a target is, and how to get there. */
  function placeOf(
    env: string,
    target: Target,
    declared: DeclaredUpstream | undefined,
  ): { readonly connect: () => Promise<Socket> } | Failed {
    let place: { readonly address?: string; readonly port: number } = target;
    if (declared !== undefined) {
      const parsed = parseDialAddress(declared.address, target.port);
      if (parsed === undefined) {
        return failed('address.refused', `\`${declared.address}\` is not an address to declare`);
      }
      place = parsed;
    }
    let context: SecureContext | undefined;
    try {
      context = target.scheme === 'https' ? trustOf(declared) : undefined;
    } catch {
      return failed('upstream.tls', `the authority declared for \`${target.host}\` is not PEM`);
    }
    const { address, port } = place;
    const to = { target, port, secureContext: context, connectTimeoutMs };
    return {
      connect: async () =>
        open(dial, address === undefined ? await lookup(env, target) : [address], to),
    };
  }

  function entryFor(
    key: string,
    env: string,
    target: Target,
    declared: DeclaredUpstream | undefined,
  ): Entry | Failed {
    const known = entries.get(key);
    if (known !== undefined) return known;
    const place = placeOf(env, target, declared);
    if ('kind' in place) return place;
    if (entries.size >= maxPools) closeIdle(Number.POSITIVE_INFINITY);
    if (entries.size >= maxPools) {
      return failed('upstream.unreachable', 'too many upstreams are in use at once');
    }
    const pool = new Pool(`${target.scheme}://${hostPort(target)}`, {
      connect: (_asked, done) => {
        place.connect().then(
          (socket) => done(null, socket),
          (error) => done(error, null),
        );
      },
      connections: maxConnections,
      pipelining: 1,
      allowH2: false,
      headersTimeout: headersTimeoutMs,
      bodyTimeout: bodyTimeoutMs,
      keepAliveTimeout: 15_000,
      keepAliveMaxTimeout: 60_000,
      maxHeaderSize: 64 * 1024,
    });
    const entry: Entry = {
      pool,
      inFlight: 0,
      idleSince: 0,
      ended() {
        entry.inFlight -= 1;
        if (entry.inFlight === 0) entry.idleSince = clock();
      },
    };
    entries.set(key, entry);
    return entry;
  }

  return {
    async send(request) {
      const { env, target, signal, declared: all } = request;
      if (!open_) return failed('upstream.unreachable', 'the gateway is closing');
      if (signal.aborted) return failed('upstream.broken', 'the client went away');
      const declared =
        all.size === 0 ? undefined : (all.get(hostPort(target)) ?? all.get(target.host));
      if (request.kind === 'websocket' || request.kind === 'tunnel') {
        const place = placeOf(env, target, declared);
        if ('kind' in place) return place;
        if (standing >= maxStanding) {
          return failed('upstream.unreachable', 'too many connections that stay at once');
        }
        standing += 1;
        return stand(track(place.connect), request, headersTimeoutMs, () => (standing -= 1));
      }
      let key = `${env}\n${target.scheme}\n${target.host}\n${target.port}`;
      if (declared !== undefined) key += `\n${tagOf(declared)}`;
      if (trusted > 0) key += `\n${trusted}`;
      const entry = entryFor(key, env, target, declared);
      if ('kind' in entry) return entry;
      if (entry.inFlight >= maxInFlight) {
        return failed('upstream.unreachable', `too many calls to \`${target.host}\` at once`);
      }
      entry.inFlight += 1;
      return exchange(entry.pool, request, entry.ended);
    },

    trust(found) {
      if (found.length === 0 && roots.length === 0) return;
      roots = found;
      trusted += 1;
      publicTrust = undefined;
    },

    stats() {
      let inFlight = standing;
      for (const entry of entries.values()) inFlight += entry.inFlight;
      return { pools: entries.size, inFlight };
    },

    async [Symbol.asyncDispose]() {
      open_ = false;
      clearInterval(sweep);
      for (const socket of stays) socket.destroy();
      const pools = [...entries.values()].map(({ pool }) => pool.destroy());
      entries.clear();
      await Promise.all(pools);
    },
  };
}
