// The control for acts on the network: a machine without Belay. In a network namespace of its own,
// as the same user, every name and address that the agent tries belongs to a server that says yes;
// the same agent program then runs there. Shows that inside the sandbox Belay is what stopped it.
//
//   unshare --user --map-root-user --net --mount node open-world.js FOLDER AGENT ACTS

import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { createAuthority } from '../gateway/listen/x509.ts';
import { METADATA_ADDRESS, PASTE_ADDRESS } from './scenes.ts';

const NAMES = ['collector.example', 'paste.example', 'files.example'];
const CORPUS = Buffer.alloc(8 * 2 ** 20);
const [folder = '', agent = '', acts = ''] = process.argv.slice(2);

function must(program: string, ...argv: string[]): void {
  const { status, stderr, error } = spawnSync(program, argv, { encoding: 'utf8' });
  if (status === 0) return;
  throw new Error(`${program} ${argv.join(' ')}: ${error?.message ?? stderr.trim()}`);
}

must('ip', 'link', 'set', 'lo', 'up');
for (const address of [METADATA_ADDRESS, PASTE_ADDRESS]) {
  must('ip', 'address', 'add', `${address}/32`, 'dev', 'lo');
}
const hosts = join(folder, 'hosts');
writeFileSync(hosts, `127.0.0.1 localhost ${NAMES.join(' ')}\n`);
must('mount', '--bind', hosts, '/etc/hosts');

const authority = createAuthority(Date.now());
const trusted = join(folder, 'open-world.pem');
writeFileSync(trusted, authority.certificatePem);

const yes: RequestListener = (request, response) => {
  request.resume();
  response.end(request.url === '/corpus.bin' ? CORPUS : 'welcome\n');
};
const secure = createTlsServer(
  {
    ...authority.mint('localhost', Date.now()),
    SNICallback(name, done) {
      done(null, createSecureContext(authority.mint(name, Date.now())));
    },
  },
  yes,
);
const again = createTlsServer(authority.mint('paste.example', Date.now()), yes);
const plain = createServer(yes);
await Promise.all([
  new Promise<void>((resolve) => secure.listen(443, resolve)),
  new Promise<void>((resolve) => again.listen(8443, resolve)),
  new Promise<void>((resolve) => plain.listen(80, resolve)),
]);

const child = spawn(process.execPath, [agent, '--acts', acts], {
  env: { PATH: process.env.PATH ?? '', NODE_EXTRA_CA_CERTS: trusted },
  stdio: ['ignore', 'inherit', 'inherit'],
});
process.exitCode = await new Promise<number>((resolve) =>
  child.once('exit', (code) => resolve(code ?? 1)),
);
for (const server of [secure, again, plain]) {
  server.close();
  server.closeAllConnections();
}
