// A server of the agent's, reached from the host because its user said so, and from nowhere else.

import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { eventually, NODE, openPlace, quietPort } from './place.ts';

const SERVER = `import fs from 'node:fs';
import http from 'node:http';
http.createServer((request, reply) => {
  if (request.method === 'POST') request.pipe(reply);
  else reply.end('hello ' + request.url);
}).listen(Number(process.argv[2]), '127.0.0.1', () => fs.writeFileSync('ready.txt', ''));
`;

function opens(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 2_000 });
    for (const event of ['connect', 'error', 'timeout']) {
      socket.once(event, () => {
        resolve(event === 'connect');
        socket.destroy();
      });
    }
  });
}

function ask(port: number, path: string, body?: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? 'GET' : 'POST';
    const asked = request({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks)));
      response.on('error', reject);
    });
    asked.setTimeout(10_000, () => asked.destroy(new Error('no answer')));
    asked.on('error', reject).end(body);
  });
}

verifies(
  'run.publish',
  'a published port of the agent is reached on the loopback of the host, is recorded, and ends with it',
  async () => {
    await using place = await openPlace();
    place.put('server.mjs', SERVER);
    const taken = createServer();
    const port = await quietPort();
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
    const flags = ['--publish', `${port}:3000`];
    const refused = await place.run(flags, ['true']);
    expect(refused.status).toBe(69);
    expect(refused.stderr).toContain('the port is in use');
    await new Promise((resolve) => taken.close(resolve));

    // The control: a server inside is not reached unless it is published.
    const hidden = place.start([], [NODE, 'server.mjs', String(port)]);
    const first = await place.openRun();
    const ready = join(place.workdir, 'ready.txt');
    await eventually('the server', () => existsSync(ready) || undefined);
    await expect(ask(port, '/')).rejects.toThrow('ECONNREFUSED');
    await place.session.belay(['kill', first]);
    await hidden.ended;

    const started = place.start(flags, [NODE, 'server.mjs', '3000']);
    const early = started.ended.then(() => Promise.reject(new Error(started.stderr())));
    early.catch(() => {});
    const run = await Promise.race([place.openRun(), early]);
    const hello = await eventually('an answer', () => ask(port, '/a'));
    expect(hello.toString()).toBe('hello /a');
    // On the loopback alone: no other address of this host has it, where it has another.
    const others = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
    for (const { address } of others.filter(({ internal }) => !internal)) {
      expect(await opens(address, port), address).toBe(false);
    }
    expect(await opens('127.0.0.2', port), 'another loopback address').toBe(false);
    const large = Buffer.alloc(5_000_000, 'x');
    expect((await ask(port, '/', large)).equals(large)).toBe(true);
    const many = await Promise.all(Array.from({ length: 10 }, (_, i) => ask(port, `/${i}`)));
    expect(many.map(String)).toEqual(Array.from({ length: 10 }, (_, i) => `hello /${i}`));
    await place.session.belay(['kill', run]);
    expect((await started.ended).status).toBe(5);
    await expect(ask(port, '/')).rejects.toThrow('ECONNREFUSED');
    const [opened] = await place.entries(run);
    expect(opened).toMatchObject({ type: 'run.open', ports: [{ host: port, inside: 3000 }] });
    for (const wrong of ['0', '70000', '3000:', 'x', '1:2:3']) {
      expect((await place.run(['--publish', wrong], ['true'])).status, wrong).toBe(2);
    }
  },
  { timeoutMs: 60_000 },
);
