// What every peer is given: a folder, the upstream, a free port, and a way to wait for it to listen.

import type { ChildProcess } from 'node:child_process';
import { type AddressInfo, connect, createServer } from 'node:net';
import { until } from './processes.ts';
import type { Origin } from './upstream.ts';

export interface Ground {
  readonly folder: string;
  readonly origin: Origin;
  readonly port: number;
  /** Resolves when the port accepts; rejects when the process ends before. */
  listening(name: string, child: ChildProcess): Promise<void>;
}

export async function groundFor(folder: string, origin: Origin): Promise<Ground> {
  const port = await freePort();
  return {
    folder,
    origin,
    port,
    async listening(name, child) {
      await until(`${name} on its port`, async () => {
        if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
        return (await accepts(port)) || undefined;
      });
    },
  };
}

/** Free now; nothing else on this host asks for it in the meantime but by chance. */
function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
  }).then((accepted) => {
    socket.destroy();
    return accepted as boolean;
  });
}
