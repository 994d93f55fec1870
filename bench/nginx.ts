// nginx as it would stand before one upstream: TLS in, verified TLS out, connections kept alive on
// both sides, one worker; no policy and no log.

import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority } from '../packages/belay/src/gateway/listen/x509.ts';
import type { Ground } from './ground.ts';
import { programPath } from './packages.ts';
import type { Missing, Peer } from './peer.ts';
import { end, familyOf, PEER_CORE, startOn } from './processes.ts';
import { LOCAL_HOST } from './upstream.ts';

export async function startNginx({
  folder,
  origin,
  port,
  listening,
}: Ground): Promise<Peer | Missing> {
  const name = 'nginx';
  const program = programPath('nginx');
  if (program === undefined) return { name, reason: 'nginx is not installed' };
  const dir = join(folder, name);
  mkdirSync(dir);
  const authority = createAuthority(Date.now());
  const leaf = authority.mint(LOCAL_HOST, Date.now());
  const put = (file: string, text: string): string => {
    writeFileSync(join(dir, file), text, { mode: 0o600 });
    return join(dir, file);
  };
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const config = `
    ${process.getuid?.() === 0 ? 'user root;' : ''}
    daemon off;
    worker_processes 1;
    pid ${dir}/nginx.pid;
    error_log ${dir}/error.log warn;
    events { worker_connections 4096; }
    http {
      access_log off;
      ${temporary.map((kind) => `${kind}_temp_path ${dir}/${kind};`).join('\n      ')}
      keepalive_requests 100000000;
      upstream origin {
        server 127.0.0.1:${origin.port};
        keepalive 256;
        keepalive_requests 100000000;
      }
      server {
        listen 127.0.0.1:${port} ssl backlog=1024;
        ssl_certificate ${put('leaf.pem', leaf.cert)};
        ssl_certificate_key ${put('leaf.key', leaf.key)};
        ssl_protocols TLSv1.3;
        location / {
          proxy_pass https://origin;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_set_header Authorization "${origin.authorization}";
          proxy_ssl_protocols TLSv1.3;
          proxy_ssl_server_name on;
          proxy_ssl_name ${LOCAL_HOST};
          proxy_ssl_verify on;
          proxy_ssl_trusted_certificate ${put('upstream-ca.pem', origin.caPem)};
        }
      }
    }
  `;
  const command = [program, '-p', dir, '-e', join(dir, 'error.log')];
  const child = startOn(PEER_CORE, [...command, '-c', put('nginx.conf', config)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  await listening(name, child);
  return {
    name,
    version:
      /nginx\/(\S+)/.exec(spawnSync(program, ['-v'], { encoding: 'utf8' }).stderr)?.[1] ?? '',
    way: {
      host: LOCAL_HOST,
      port,
      ca: authority.certificatePem,
      dial: { host: '127.0.0.1', port },
      opening: 'none',
    },
    authorization: 'Bearer replaced',
    issuer: authority.commonName,
    pids: () => familyOf(child.pid as number),
    [Symbol.asyncDispose]: () => end(child),
  };
}
