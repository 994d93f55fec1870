// A listener on the loopback of the host, for as long as a sandbox is probed: whoever reaches it from
// inside has shown that the sandbox does not hold.

import { createServer } from 'node:net';
import { asBelayError } from '../core/errors.ts';

export interface Bait extends AsyncDisposable {
  readonly port: number;
  reached(): boolean;
}

export async function listenAsBait(): Promise<Bait> {
  let reached = false;
  const server = createServer((socket) => {
    reached = true;
    socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(asBelayError('ERR_HOST', 'no loopback', error)));
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    port,
    reached: () => reached,
    [Symbol.asyncDispose]: () => new Promise((resolve) => void server.close(() => resolve())),
  };
}
