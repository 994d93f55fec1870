// mockttp, in a process of its own (mockttp-proxy.ts).

import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ground } from './ground.ts';
import type { MockttpReady, MockttpSettings } from './mockttp-proxy.ts';
import { installMockttp } from './packages.ts';
import { issuerIn, type Missing, type Peer } from './peer.ts';
import { end, familyOf, PEER_CORE, startOn } from './processes.ts';
import { LOCAL_HOST } from './upstream.ts';

export async function startMockttp(
  { folder, origin, port }: Ground,
  say: (line: string) => void,
): Promise<Peer | Missing> {
  const name = 'mockttp';
  let home: string;
  try {
    home = installMockttp(say);
  } catch (error) {
    return { name, reason: (error as Error).message };
  }
  const command = [process.execPath, join(import.meta.dirname, 'mockttp-proxy.ts')];
  // It speaks of every client that leaves.
  const log = openSync(join(folder, 'mockttp.log'), 'a', 0o600);
  const child = startOn(PEER_CORE, command, { stdio: ['ignore', log, log, 'ipc'] });
  closeSync(log);
  const { authorization, caPem } = origin;
  child.send({ home, port, upstreamCa: caPem, authorization } satisfies MockttpSettings);
  const { ca } = await new Promise<MockttpReady>((resolve, reject) => {
    child.once('message', (ready) => resolve(ready as MockttpReady));
    child.once('exit', (code) => reject(new Error(`mockttp ended with ${code}`)));
  });
  const manifest = readFileSync(join(home, 'node_modules/mockttp/package.json'), 'utf8');
  return {
    name,
    version: (JSON.parse(manifest) as { readonly version: string }).version,
    way: {
      host: LOCAL_HOST,
      port: origin.port,
      ca,
      dial: { host: '127.0.0.1', port },
      opening: 'connect',
    },
    authorization: 'Bearer replaced',
    issuer: issuerIn(ca),
    pids: () => familyOf(child.pid as number),
    [Symbol.asyncDispose]: () => end(child),
  };
}
