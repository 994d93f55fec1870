// What a connection costs the daemon that has finished its handshake and says nothing more: agents keep
// many. Measured where the memory of TLS is, in the daemon's own heap of malloc, from outside.

import { chownSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { join } from 'node:path';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect } from 'vitest';
import { ORDINARY_UID } from '../installed.ts';
import { verifies } from '../verifies.ts';
import { eventually, openPlace, type Place } from './place.ts';

const EXTERNAL = ['--containment', 'external'];
const CONNECTIONS = 400;
const WARM = 40;
const AT_ONCE = 8;
/** Of OpenSSL and Node for one connection; with a buffer of 16 KiB more, it is over 45. */
const MOST_KIB = 38;

let place: Place;
let proxy: URL;
let ca: string;

beforeAll(async () => {
  place = await openPlace({ allow: ['api.example'] });
  if (process.getuid?.() === 0) {
    const { workdir } = place;
    for (const path of [workdir, ...readdirSync(workdir).map((name) => join(workdir, name))]) {
      chownSync(path, ORDINARY_UID, ORDINARY_UID);
    }
  }
  place.start(EXTERNAL, [
    'sh',
    '-c',
    'echo "$HTTPS_PROXY" > proxy.new; mv proxy.new proxy.txt; sleep 300',
  ]);
  await place.openRun();
  const file = join(place.workdir, 'proxy.txt');
  proxy = new URL(
    await eventually('the proxy', () =>
      existsSync(file) ? readFileSync(file, 'utf8') : undefined,
    ),
  );
  ca = readFileSync(join(place.session.home, 'trust/ca.pem'), 'utf8');
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
}, 60_000);

async function open(options: ConnectionOptions = {}): Promise<TLSSocket> {
  const raw = connectTcp(Number(proxy.port), proxy.hostname);
  const token = Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64');
  raw.write(
    `CONNECT api.example:443 HTTP/1.1\r\nhost: api.example:443\r\nproxy-authorization: Basic ${token}\r\n\r\n`,
  );
  await once(raw, 'data');
  const secure = connectTls({ socket: raw, servername: 'api.example', ca, ...options });
  await once(secure, 'secureConnect');
  return secure;
}

function once(socket: Socket, event: 'data' | 'secureConnect'): Promise<unknown> {
  return new Promise((resolve, reject) => {
    socket.once(event, resolve).once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
  });
}

async function openAll(connections: number): Promise<readonly TLSSocket[]> {
  const opened: TLSSocket[] = [];
  while (opened.length < connections) {
    const few = Math.min(AT_ONCE, connections - opened.length);
    opened.push(...(await Promise.all(Array.from({ length: few }, () => open()))));
  }
  return opened;
}

function mallocKib(pid: number): number {
  const maps = readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const heap = maps.find((map) => /^.*\[heap\]\n/.test(map)) ?? '';
  return Number(/^Rss:\s+(\d+) kB$/m.exec(heap)?.[1]);
}

verifies(
  'gw.idle-memory',
  'of a finished handshake nothing stays that the connection does not need',
  async () => {
    const { pid } = await place.status();
    const warm = await openAll(WARM);
    const beforeKib = mallocKib(pid);
    const held = await openAll(CONNECTIONS);
    const eachKib = (mallocKib(pid) - beforeKib) / CONNECTIONS;
    for (const socket of [...warm, ...held]) {
      expect(socket.destroyed).toBe(false);
      socket.destroy();
    }
    expect(eachKib).toBeLessThan(MOST_KIB);
    expect(eachKib).toBeGreaterThan(0);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'gw.idle-memory',
  'the small key exchange is taken from every client that has it, and others get theirs',
  async () => {
    const negotiated = async (options?: ConnectionOptions): Promise<unknown> => {
      const socket = await open(options);
      const found = socket.getEphemeralKeyInfo() as { readonly name?: string };
      socket.destroy();
      return found.name;
    };
    // What OpenSSL and Go offer unasked: a key of the large exchange, and one of the small.
    expect(await negotiated()).toBe('X25519');
    expect(await negotiated({ ecdhCurve: 'P-256' })).toBe('prime256v1');
    expect(await negotiated({ ecdhCurve: 'X25519MLKEM768' })).toBe('X25519MLKEM768');
    expect(await negotiated({ maxVersion: 'TLSv1.2' })).toBe('X25519');
  },
  { timeoutMs: 30_000 },
);
