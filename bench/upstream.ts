// Starts the upstream of a bench, and asks it what it has seen.

import { join } from 'node:path';
import { createAuthority } from '../packages/belay/src/gateway/listen/x509.ts';
import { BODY_BYTES, LARGE_BYTES, type OriginCounts, type OriginSettings } from './origin.ts';
import { end, LOAD_CORE, startOn } from './processes.ts';

/** By this name peers find it, and by the other Belay, whose configuration says where it is. */
export const LOCAL_HOST = 'localhost';
export const DECLARED_HOST = 'api.bench.example';

export interface Origin extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  readonly caPem: string;
  readonly issuer: string;
  readonly bodyBytes: number;
  readonly largeBytes: number;
  /** What every request has to carry: `Bearer ...`. */
  readonly authorization: string;
  counts(): Promise<OriginCounts>;
}

export async function startOrigin(authorization: string): Promise<Origin> {
  const authority = createAuthority(Date.now());
  const leaves = Object.fromEntries(
    [LOCAL_HOST, DECLARED_HOST].map((host) => {
      const { cert, key } = authority.mint(host, Date.now());
      return [host, { cert, key }];
    }),
  );
  const command = [process.execPath, join(import.meta.dirname, 'origin.ts')];
  const child = startOn(LOAD_CORE, command, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const ask = <T>(question: object): Promise<T> =>
    new Promise((resolve, reject) => {
      const gone = (): void => reject(new Error('the upstream ended'));
      child.once('exit', gone).once('message', (answer) => {
        child.off('exit', gone);
        resolve(answer as T);
      });
      child.send(question);
    });
  const settings: OriginSettings = { leaves, token: authorization };
  const { port } = await ask<{ readonly port: number }>(settings);
  return {
    pid: child.pid as number,
    port,
    caPem: authority.certificatePem,
    issuer: authority.commonName,
    bodyBytes: BODY_BYTES,
    largeBytes: LARGE_BYTES,
    authorization,
    counts: () => ask<OriginCounts>({}),
    [Symbol.asyncDispose]: () => end(child),
  };
}
