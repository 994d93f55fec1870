// From a name to addresses that may be dialled. Every address of an answer is checked, and one
// refused address refuses the name: an answer that mixes public and private is an attack or a
// mistake. The host's own addresses are refused like its loopback; its neighbours' are not, because
// a provider's network may hold the whole of a permitted service. What is returned here is what is
// dialled; nobody resolves again in between.

import { lookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';
import type { Clock } from '../core/ids.ts';
import { isAddress, type Target } from '../core/target.ts';
import { parseAddress, refusedAddress } from './addresses.ts';
import { failure, wordsFor } from './failure.ts';

export type Resolve = (
  host: string,
) => Promise<readonly { readonly address: string; readonly family: number }[]>;

export const systemResolve: Resolve = (host) => lookup(host, { all: true, order: 'verbatim' });

/** The addresses of the host's interfaces. */
export type OwnAddresses = () => readonly string[];

export const hostAddresses: OwnAddresses = () =>
  Object.values(networkInterfaces()).flatMap((found = []) => found.map(({ address }) => address));

/** Checked addresses of a target, for one environment; rejects with ERR_ADDRESS. */
export type Lookup = (env: string, target: Target) => Promise<readonly string[]>;

/**
 * Connections of one environment that open together share one query; an answer, and what the host
 * calls its own, are used for at most `ttlMs`.
 */
export function createLookup(
  resolve: Resolve,
  ownAddresses: OwnAddresses,
  clock: Clock,
  { ttlMs, maxNames }: { readonly ttlMs: number; readonly maxNames: number },
): Lookup {
  const answers = new Map<string, { readonly until: number; readonly found: Promise<string[]> }>();
  let own = new Set<string>();
  let ownUntil = Number.NEGATIVE_INFINITY;

  function isOwn(address: string): boolean {
    const now = clock();
    if (now >= ownUntil) {
      own = new Set(ownAddresses().map(wordsOf));
      ownUntil = now + ttlMs;
    }
    return own.has(wordsOf(address));
  }

  function checked(host: string, address: string): string {
    const why = refusedAddress(address) ?? (isOwn(address) ? "the host's own" : undefined);
    if (why === undefined) return address;
    const what = host === address ? `\`${host}\`` : `\`${host}\` resolves to \`${address}\`, which`;
    throw failure('address.refused', `${what} is refused: ${why}; declare it under upstreams`);
  }

  async function query(host: string): Promise<string[]> {
    let found: readonly { readonly address: string }[];
    try {
      found = await resolve(host);
    } catch (error) {
      throw failure('address.unresolved', `\`${host}\` does not resolve: ${wordsFor(error)}`);
    }
    if (found.length === 0) throw failure('address.unresolved', `\`${host}\` has no address`);
    return found.map(({ address }) => checked(host, address));
  }

  return (env, { host }) => {
    if (isAddress(host)) {
      return new Promise((done) => done([checked(host, host)]));
    }
    const now = clock();
    const key = `${env}\n${host}`;
    const known = answers.get(key);
    if (known !== undefined && now < known.until) return known.found;
    if (answers.size >= maxNames) {
      for (const [name, { until }] of answers) if (now >= until) answers.delete(name);
      if (answers.size >= maxNames) answers.clear();
    }
    const found = query(host);
    answers.set(key, { until: now + ttlMs, found });
    // A failed query is not kept; those who wait for it hear of it through `found` itself.
    found.catch(() => answers.delete(key));
    return found;
  };
}

/** One address may be written in several ways. */
function wordsOf(address: string): string {
  return String(parseAddress(address));
}
