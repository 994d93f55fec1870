// squid with ssl-bump: an explicit proxy that opens TLS, checks the upstream's certificate, and
// mints its own for the client. No cache, no log, one process.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority } from '../packages/belay/src/gateway/listen/x509.ts';
import type { Ground } from './ground.ts';
import { programPath } from './packages.ts';
import type { Missing, Peer } from './peer.ts';
import { end, familyOf, PEER_CORE, startOn } from './processes.ts';
import { LOCAL_HOST } from './upstream.ts';

const CERTIFICATES = '/usr/lib/squid/security_file_certgen';

export async function startSquid({
  folder,
  origin,
  port,
  listening,
}: Ground): Promise<Peer | Missing> {
  const name = 'squid';
  const program = programPath('squid');
  if (program === undefined) return { name, reason: 'squid is not installed' };
  const dir = join(folder, name);
  mkdirSync(dir);
  const authority = createAuthority(Date.now());
  const put = (file: string, text: string): string => {
    writeFileSync(join(dir, file), text, { mode: 0o600 });
    return join(dir, file);
  };
  const minted = spawnSync(CERTIFICATES, ['-c', '-s', join(dir, 'minted'), '-M', '4MB']);
  if (minted.status !== 0) return { name, reason: 'this squid is built without ssl-bump' };
  const config = `
http_port 127.0.0.1:${port} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB tls-cert=${put('ca.pem', authority.pem)}
sslcrtd_program ${CERTIFICATES} -s ${dir}/minted -M 4MB
sslcrtd_children 1
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
tls_outgoing_options cafile=${put('upstream-ca.pem', origin.caPem)}
hosts_file ${put('hosts', `127.0.0.1 ${LOCAL_HOST}\n`)}
acl ours port ${origin.port}
http_access allow ours
http_access deny all
request_header_access Authorization deny all
request_header_add Authorization "${origin.authorization}"
cache deny all
cache_mem 0 MB
memory_pools_limit 64 MB
access_log none
cache_log ${dir}/cache.log
cache_store_log none
pid_filename ${dir}/squid.pid
coredump_dir ${dir}
visible_hostname bench
shutdown_lifetime 0 seconds
pinger_enable off
via off
forwarded_for delete
workers 1
`;
  const path = put('squid.conf', config);
  // Started as root it becomes this user, and has to get at its files.
  if (process.getuid?.() === 0) {
    chmodSync(folder, 0o711);
    spawnSync('chown', ['-R', 'proxy:proxy', dir]);
  }
  const child = startOn(PEER_CORE, [program, '-N', '-f', path], { stdio: 'ignore' });
  try {
    await listening(name, child);
  } catch (error) {
    throw new Error(`${readFileSync(join(dir, 'cache.log'), 'utf8').slice(-2000)}`, {
      cause: error,
    });
  }
  const { stdout } = spawnSync(program, ['-v'], { encoding: 'utf8' });
  return {
    name,
    version: /Version (\S+)/.exec(stdout)?.[1] ?? '',
    way: {
      host: LOCAL_HOST,
      port: origin.port,
      ca: authority.certificatePem,
      dial: { host: '127.0.0.1', port },
      opening: 'connect',
    },
    authorization: 'Bearer replaced',
    issuer: authority.commonName,
    pids: () => familyOf(child.pid as number),
    [Symbol.asyncDispose]: () => end(child),
  };
}
