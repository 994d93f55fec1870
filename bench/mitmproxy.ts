// mitmproxy without its screen, as it comes, but with the upstream's authority and the credential.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ground } from './ground.ts';
import { programPath } from './packages.ts';
import { issuerIn, type Missing, type Peer } from './peer.ts';
import { end, familyOf, PEER_CORE, startOn } from './processes.ts';
import { LOCAL_HOST } from './upstream.ts';

export async function startMitmproxy(ground: Ground): Promise<Peer | Missing> {
  const { folder, origin, port } = ground;
  const name = 'mitmproxy';
  const program = programPath('mitmdump');
  if (program === undefined) return { name, reason: 'mitmproxy is not installed' };
  const dir = join(folder, name);
  mkdirSync(dir);
  const trusted = join(dir, 'upstream-ca.pem');
  writeFileSync(trusted, origin.caPem);
  const settings = [
    `confdir=${dir}`,
    `ssl_verify_upstream_trusted_ca=${trusted}`,
    'flow_detail=0',
    'http2=false',
    `modify_headers=/~q/Authorization/${origin.authorization}`,
  ];
  const child = startOn(
    PEER_CORE,
    [
      ...[program, '-q', '--listen-host', '127.0.0.1', '-p', String(port)],
      ...settings.flatMap((setting) => ['--set', setting]),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  await ground.listening(name, child);
  const ca = readFileSync(join(dir, 'mitmproxy-ca-cert.pem'), 'utf8');
  const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
  return {
    name,
    version: /Mitmproxy: (\S+)/.exec(stdout)?.[1] ?? '',
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
