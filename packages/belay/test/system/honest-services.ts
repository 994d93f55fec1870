// What an agent's work needs of the network: git's own server for a twin of a forge, and the npm
// registry that this host is configured for. No name of a registry stands here: npm tells it.

import { spawn, spawnSync } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { existsSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';

/** git's own server side, as CGI (RFC 3875) behind an upstream. */
export function serveGit(projects: string) {
  return (request: IncomingMessage, reply: ServerResponse): void => {
    const { pathname, search } = new URL(request.url ?? '/', 'http://twin');
    const { headers } = request;
    const backend = spawn('git', ['http-backend'], {
      env: {
        PATH: process.env.PATH,
        GIT_PROJECT_ROOT: projects,
        GIT_HTTP_EXPORT_ALL: '1',
        GIT_CONFIG_COUNT: '1',
        GIT_CONFIG_KEY_0: 'safe.directory',
        GIT_CONFIG_VALUE_0: '*',
        REQUEST_METHOD: request.method,
        PATH_INFO: pathname,
        QUERY_STRING: search.slice(1),
        CONTENT_TYPE: headers['content-type'],
        CONTENT_LENGTH: headers['content-length'],
        HTTP_CONTENT_ENCODING: headers['content-encoding'],
        GIT_PROTOCOL: headers['git-protocol'] as string | undefined,
      },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    backend.stdin.on('error', () => {});
    request.pipe(backend.stdin);
    let head = Buffer.alloc(0);
    backend.stdout.on('data', function read(chunk: Buffer) {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      backend.stdout.off('data', read);
      const fields = head.toString('latin1', 0, end).split('\r\n');
      for (const [name = '', value = ''] of fields.map((field) => field.split(': '))) {
        if (name.toLowerCase() === 'status') reply.statusCode = Number.parseInt(value, 10);
        else reply.setHeader(name, value);
      }
      reply.write(head.subarray(end + 4));
      backend.stdout.pipe(reply);
    });
    backend.once('error', () => reply.destroy());
  };
}

export interface Registry {
  readonly url: string;
  readonly host: string;
  readonly allow: string;
  readonly declared: object;
  /** What npm has to be told bare. */
  readonly trusted: readonly string[];
}

/** Where npm of this host gets its packages, as an upstream to declare; or why there is none. */
export async function registryOfHost(): Promise<Registry | string> {
  // As the caller is configured: a session has a home of its own.
  const { stdout } = spawnSync('npm', ['config', 'get', 'registry', 'cafile'], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  const said = new Map(
    stdout.split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]),
  );
  const text = said.get('registry') ?? '';
  if (!URL.canParse(text)) return 'npm of this host has no registry';
  const url = new URL(text);
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
  const found = await lookup(url.hostname, { family: 4 }).catch(() => undefined);
  if (found === undefined) return 'the npm registry of this host does not resolve';
  // The gateway keeps to Node's own authorities unless it is told of others.
  const named = said.get('cafile') ?? '';
  const file = existsSync(named) ? named : '/etc/ssl/certs/ca-certificates.crt';
  const ca = existsSync(file) ? { ca: file } : {};
  const tls = url.protocol === 'https:' ? { tls: ca } : { scheme: 'http' };
  return {
    url: url.href,
    host: url.hostname,
    allow: url.port === '' ? url.hostname : `${url.hostname}:${url.port}`,
    declared: { address: `${found.address}:${port}`, ...tls },
    trusted: existsSync(file) ? [`--cafile=${file}`] : [],
  };
}
