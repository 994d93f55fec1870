// What a bench compares: something between the load generator and the upstream.

import { X509Certificate } from 'node:crypto';
import type { Way } from './load.ts';
import type { LoadClient } from './load-client.ts';

export interface Peer extends AsyncDisposable {
  readonly name: string;
  readonly version: string;
  readonly way: Way;
  /** What the load generator sends; what arrives has to be the upstream's. */
  readonly authorization: string;
  /** Whose signature the load generator has to see on the certificate. */
  readonly issuer: string;
  /** Every process of it, on the core of its own. */
  pids(): readonly number[];
  /** A load generator of its own, and what else runs beside it. */
  readonly load?: {
    readonly client: LoadClient;
    readonly pids: () => readonly number[];
    /** What carries the bytes between the agent and the gateway. */
    readonly bridgePid: number;
  };
  readonly newPaths?: true;
}

/** A peer that cannot be had on this host. */
export interface Missing {
  readonly name: string;
  readonly reason: string;
}

export function issuerIn(certificatePem: string): string {
  return /^CN=(.+)$/m.exec(new X509Certificate(certificatePem).subject)?.[1] ?? '';
}
