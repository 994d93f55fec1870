// The load generator: keeps N connections busy, one request each at a time, and counts answers. It
// reaches every peer in the way that the peer is reached in life: TLS to it, CONNECT and then TLS,
// or a run's socket with the bridge's line and then TLS. A process of its own, on another core than
// the peer; the same program runs as the agent of a sandbox. One job a line on standard input, and
// two lines back: when counting begins, and what was counted. Anything but a whole 200 is an error.

import { connect as connectTcp, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { quantile } from './figures.ts';

export interface Way {
  /** The name that TLS has to prove, and the port that the agent thinks it calls. */
  readonly host: string;
  readonly port: number;
  /** The only authority that is believed: a peer that passes TLS through fails here. */
  readonly ca: string;
  readonly dial: { readonly host: string; readonly port: number } | { readonly path: string };
  readonly opening: 'none' | 'connect' | 'bridge-line';
}

export interface Job {
  readonly way: Way;
  readonly connections: number;
  readonly warmMs: number;
  readonly measureMs: number;
  readonly authorization: string;
  readonly bodyBytes: number;
  /** Every request asks for another path than all before it. */
  readonly newPaths: boolean;
  /** The only path that is asked for. */
  readonly path?: string;
  /** Every request has a connection of its own. */
  readonly reconnects?: true;
  /** Each connection makes one request, before counting begins, and is then held. */
  readonly holds?: true;
}

export interface Counted {
  readonly requests: number;
  /** Requests of the warm-up included. */
  readonly sent: number;
  readonly errors: readonly string[];
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly issuer: string;
}

export type Line =
  | { readonly kind: 'begin' }
  | { readonly kind: 'counted'; readonly counted: Counted }
  | { readonly kind: 'failed'; readonly reason: string };

const OPEN_TIMEOUT_MS = 15_000;
/** For each connection more. */
const OPEN_ONE_MS = 15;
const OPEN_AT_ONCE = 8;
const PATHS = 64;
const MOST_SAMPLES = 1 << 20;
const MOST_ERRORS = 20;
const HEAD_END = Buffer.from('\r\n\r\n');

async function open(way: Way, opened: (socket: Socket) => void): Promise<TLSSocket> {
  const { dial, host, port } = way;
  const raw = 'path' in dial ? connectTcp(dial.path) : connectTcp(dial.port, dial.host);
  opened(raw);
  raw.setNoDelay(true);
  if (way.opening === 'bridge-line') {
    raw.write(`${JSON.stringify({ v: 1, dst: '198.18.0.1', port, name: host })}\n`);
  } else if (way.opening === 'connect') {
    raw.write(`CONNECT ${host}:${port} HTTP/1.1\r\nhost: ${host}:${port}\r\n\r\n`);
    await connected(raw);
  } else {
    await new Promise<void>((resolve, reject) => {
      raw.once('connect', resolve).once('error', reject);
    });
  }
  const secure = connectTls({ socket: raw, servername: host, ca: way.ca });
  const closed = Promise.withResolvers<never>();
  secure.once('close', () => closed.reject(new Error('closed during the handshake')));
  closed.promise.catch(() => {});
  await Promise.race([
    closed.promise,
    new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve).once('error', reject);
    }),
  ]);
  return secure;
}

function connected(raw: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let head = '';
    const onData = (chunk: Buffer): void => {
      head += chunk.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      raw.off('data', onData);
      raw.pause();
      if (/^HTTP\/1\.[01] 200/.test(head)) resolve();
      else reject(new Error(`CONNECT: ${head.split('\r\n', 1)[0]}`));
    };
    raw
      .on('data', onData)
      .once('error', reject)
      .once('close', () => {
        reject(new Error('closed during CONNECT'));
      });
  });
}

let paths = 0;

/** What the next request is. */
function requests({ way, authorization, newPaths, path: only }: Job): () => Buffer {
  const authority = way.port === 443 ? way.host : `${way.host}:${way.port}`;
  const request = (path: string): Buffer =>
    Buffer.from(
      `GET ${path} HTTP/1.1\r\nhost: ${authority}\r\naccept: application/json\r\n` +
        `user-agent: belay-bench\r\nauthorization: ${authorization}\r\n\r\n`,
    );
  if (only !== undefined) {
    const same = request(only);
    return () => same;
  }
  if (newPaths) return () => request(`/v1/new/${++paths}`);
  const few = Array.from({ length: PATHS }, (_, i) => request(`/v1/items/${i}`));
  let turn = 0;
  return () => few[++turn % PATHS] as Buffer;
}

/** Calls `onAnswer` for each whole answer, with why it is none that is wanted. */
function readAnswers(
  socket: TLSSocket,
  bodyBytes: number,
  onAnswer: (wrong?: string) => void,
): void {
  let rest: Buffer | undefined;
  let missing = 0;
  socket.on('data', (chunk: Buffer) => {
    let bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
    rest = undefined;
    while (bytes.length > 0) {
      if (missing > 0) {
        const taken = Math.min(missing, bytes.length);
        missing -= taken;
        bytes = bytes.subarray(taken);
        if (missing === 0) onAnswer();
        continue;
      }
      const end = bytes.indexOf(HEAD_END);
      if (end < 0) {
        rest = bytes;
        return;
      }
      const head = bytes.toString('latin1', 0, end);
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1]);
      if (!head.startsWith('HTTP/1.1 200 ') || length !== bodyBytes) {
        onAnswer(`\`${head.split('\r\n', 1)[0]}\` with a body of ${length} bytes`);
        return;
      }
      missing = length;
      bytes = bytes.subarray(end + HEAD_END.length);
    }
  });
}

async function openAll({ way, connections }: Job): Promise<readonly TLSSocket[]> {
  const raw: Socket[] = [];
  const late = setTimeout(
    () => {
      for (const socket of raw) socket.destroy(new Error('the time for opening is over'));
    },
    OPEN_TIMEOUT_MS + connections * OPEN_ONE_MS,
  );
  try {
    const sockets: TLSSocket[] = [];
    // A few at a time: what is measured is not how fast a peer accepts.
    while (sockets.length < connections) {
      const few = Math.min(OPEN_AT_ONCE, connections - sockets.length);
      const opening = Array.from({ length: few }, () => open(way, (socket) => raw.push(socket)));
      sockets.push(...(await Promise.all(opening)));
    }
    return sockets;
  } catch (error) {
    for (const socket of raw) socket.destroy();
    throw error;
  } finally {
    clearTimeout(late);
  }
}

const samples = new Float64Array(MOST_SAMPLES);

async function run(job: Job): Promise<Counted> {
  const errors: string[] = [];
  let count = 0;
  let sent = 0;
  let counting = false;
  let stopping = false;
  const next = requests(job);
  const sockets = await openAll(job);
  const { issuer } = (sockets[0] as TLSSocket).getPeerCertificate();

  const held = new Set(sockets);
  const drive = (socket: TLSSocket, openedMs: number): void => {
    let sentMs = openedMs;
    held.add(socket);
    const fail = (why: string): void => {
      if (!stopping && errors.length < MOST_ERRORS) errors.push(why);
    };
    const send = (): void => {
      if (stopping) return;
      const request = next();
      sent += 1;
      if (job.reconnects === undefined) sentMs = performance.now();
      socket.write(request);
    };
    readAnswers(socket, job.bodyBytes, (wrong) => {
      if (wrong !== undefined) {
        fail(wrong);
        socket.destroy();
        return;
      }
      if (counting) samples[count++ % MOST_SAMPLES] = performance.now() - sentMs;
      if (job.holds) return;
      if (job.reconnects) return void reconnect(socket).catch((error) => fail(error.message));
      send();
    });
    socket.on('error', (error) => fail(error.message));
    socket.on('close', () => {
      if (held.delete(socket)) fail('a connection was closed');
    });
    send();
  };
  const reconnect = async (socket: TLSSocket): Promise<void> => {
    held.delete(socket);
    socket.destroy();
    if (stopping) return;
    const openedMs = performance.now();
    const fresh = await open(job.way, () => {});
    // It may have come too late to be counted, or to be closed with the others.
    if (stopping) fresh.destroy();
    else drive(fresh, openedMs);
  };
  for (const socket of sockets) drive(socket, performance.now());
  const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));
  await pause(job.warmMs);
  say({ kind: 'begin' });
  counting = true;
  const beganMs = performance.now();
  await pause(job.measureMs);
  counting = false;
  stopping = true;
  const seconds = (performance.now() - beganMs) / 1000;
  for (const socket of held) socket.destroy();

  const sorted = samples.subarray(0, Math.min(count, MOST_SAMPLES)).sort();
  return {
    requests: count,
    sent,
    errors,
    seconds,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    issuer: String(issuer?.CN ?? ''),
  };
}

function say(line: Line): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

if (import.meta.main) {
  for await (const text of createInterface({ input: process.stdin })) {
    try {
      say({ kind: 'counted', counted: await run(JSON.parse(text) as Job) });
    } catch (error) {
      say({ kind: 'failed', reason: (error as Error).message });
    }
  }
}
