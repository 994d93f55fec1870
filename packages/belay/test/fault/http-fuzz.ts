// Bytes of an agent at the gateway of an installed Belay, as its bridge would bring them, to upstreams
// that note what arrives. Beside it a strict reader reads the same bytes: what arrived is among what it
// read, in that order and equal in every part, and is itself plainly HTTP; each arrival has its own
// permitted intent in the ledger; the daemon stays the same, of bounded size, and serves in between.
//
//   node http-fuzz.ts [SECONDS] [SEED]

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { entriesOnDisk } from '../system/ledger-files.ts';
import { openPlace, type Place } from '../system/place.ts';
import { FULL_SECONDS, type FuzzFigures, fuzz, type Judge, type Judged } from './fuzzer.ts';
import type { Chance } from './random.ts';
import { difference } from './same-request.ts';
import { type ReadRequest, readRequests } from './strict-http.ts';

export const covers = ['packages/belay/src/gateway', 'packages/belay/src/monitor'];
/** A fresh daemon for each: the ledger is read whole at its end. */
const ROUND_SECONDS = 30;
const LANES = 6;
/** All of one length: inputs name the first. */
const HOSTS = Array.from({ length: LANES }, (_, i) => `lane-${i}.example`);
const [FIRST_HOST = ''] = HOSTS;
const MOST_DAEMON_BYTES = 500 << 20;
/** A connection that says no more although more is due. */
const QUIET_MS = 150;
/** Time for a request that is one to the gateway, but is not whole. */
const INCOMPLETE_MS = 10;
const HANG_MS = 10_000;
const NO_BODY = createHash('sha256').digest('hex');
const HEALTH_EVERY = 200;

export interface HttpFuzzFigures extends FuzzFigures {
  readonly arrivals: number;
  readonly intents: number;
  readonly daemonMostBytes: number;
}

/** Throws when a promise does not hold. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<HttpFuzzFigures> {
  return await fuzzHttp(FULL_SECONDS * size.scale, size.seed);
}

async function fuzzHttp(seconds: number, seed: number): Promise<HttpFuzzFigures> {
  const rounds: HttpFuzzFigures[] = [];
  for (let left = seconds; left > 0; left -= ROUND_SECONDS) {
    rounds.push(await fuzzRound(Math.min(left, ROUND_SECONDS), seed + rounds.length));
  }
  const sum = (of: 'cases' | 'seconds' | 'arrivals' | 'intents'): number =>
    rounds.reduce((all, round) => all + round[of], 0);
  const sorts: Record<string, number> = {};
  for (const [sort, count] of rounds.flatMap((round) => Object.entries(round.sorts))) {
    sorts[sort] = (sorts[sort] ?? 0) + count;
  }
  return {
    cases: sum('cases'),
    seconds: sum('seconds'),
    arrivals: sum('arrivals'),
    intents: sum('intents'),
    daemonMostBytes: Math.max(...rounds.map(({ daemonMostBytes }) => daemonMostBytes)),
    sorts,
  };
}

async function fuzzRound(seconds: number, seed: number): Promise<HttpFuzzFigures> {
  await using stack = new AsyncDisposableStack();
  const upstreams = await Promise.all(HOSTS.map(() => startRecorder()));
  for (const upstream of upstreams) stack.use(upstream);
  const place = stack.use(
    await openPlace({
      allow: HOSTS.map((host) => `${host}:80`),
      caps: { calls: 1e8, bytes: '1000GB', denials: 1e8, denialsPerMinute: 1e8 },
      upstreams: Object.fromEntries(
        HOSTS.map((host, i) => [host, { address: upstreams[i]?.address, scheme: 'http' }]),
      ),
    }),
  );
  const started = place.start([], ['sleep', String(3_600)]);
  const run = await place.openRun();
  const { pid } = await place.status();
  const socketPath = join(place.session.home, 'run', run, 'gw.sock');
  const figures = await fuzz(
    {
      name: 'http',
      words: WORDS,
      judges: upstreams.map((upstream, i) => createJudge(socketPath, HOSTS[i] as string, upstream)),
    },
    { seconds, seed },
  );
  const daemonMostBytes = peakOf(pid);
  if (daemonMostBytes > MOST_DAEMON_BYTES)
    throw new Error(`the daemon has ${daemonMostBytes} bytes`);
  if ((await place.status()).pid !== pid) throw new Error('another daemon');
  started.child.kill('SIGTERM');
  await started.ended;
  const intents = checkLedger(place, run, upstreams);
  const arrivals = upstreams.reduce((all, { arrivals }) => all + arrivals.length, 0);
  return { ...figures, arrivals, intents, daemonMostBytes };
}

interface Recorder extends AsyncDisposable {
  readonly address: string;
  readonly arrivals: ReadRequest[];
  /** What came and was no request, if anything did. */
  problem: string | undefined;
}

/** An upstream that notes what its strict reader reads, and answers it. */
async function startRecorder(): Promise<Recorder> {
  const recorder = { arrivals: [] as ReadRequest[] } as {
    -readonly [K in keyof Recorder]: Recorder[K];
  };
  const server = createServer((socket) => {
    let seen = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      seen = Buffer.concat([seen, chunk]);
      const { requests, rest, restAt } = readRequests(seen);
      if (rest === 'broken') {
        recorder.problem = `an upstream heard ${JSON.stringify(seen.toString('latin1'))}`;
      }
      seen = seen.subarray(restAt);
      for (const request of requests) {
        recorder.arrivals.push(request);
        const body = request.method === 'HEAD' ? '' : 'ok';
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${body}`);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  recorder.address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  recorder[Symbol.asyncDispose] = async () => void server.close();
  return recorder;
}

function createJudge(socketPath: string, host: string, upstream: Recorder): Judge {
  /** Of the input before: what it sent may arrive after its client left. */
  let before: readonly ReadRequest[] = [];
  let cases = 0;
  return async (bytes, draw): Promise<Judged> => {
    const input = Buffer.from(bytes.toString('latin1').replaceAll(FIRST_HOST, host), 'latin1');
    const { requests, rest } = readRequests(input);
    const from = upstream.arrivals.length;
    const due: Due = {
      answers: requests.length + (rest === 'broken' ? 1 : 0),
      more: rest === 'more',
      quietMs: QUIET_MS,
    };
    const said = await send(socketPath, host, input, due, draw);
    if (said === undefined) return { problem: 'the gateway neither answers nor closes' };
    const arrived = upstream.arrivals.slice(from);
    if (upstream.problem !== undefined) return { problem: upstream.problem };
    const problem = astray(arrived, [...before, ...requests], host);
    if (problem !== undefined) return { problem };
    before = requests;
    cases += 1;
    if (cases % HEALTH_EVERY === 0) {
      const plain = Buffer.from(
        `GET /healthy HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
      );
      before = readRequests(plain).requests;
      const healthy = await send(socketPath, host, plain, HEALTHY, undefined);
      if (healthy?.join() !== '200') return { problem: `an ordinary request is ${healthy}` };
    }
    return { sort: `${said.slice(0, 4).join(' ')} of ${Math.min(requests.length, 4)}, ${rest}` };
  };
}

/** The first arrival that is none of the requests, in their order. */
function astray(
  arrived: readonly ReadRequest[],
  sent: readonly ReadRequest[],
  host: string,
): string | undefined {
  let at = 0;
  for (const one of arrived) {
    const behind = sent.slice(at);
    const index = behind.findIndex((request) => difference(request, one, host) === undefined);
    if (index === -1) {
      const how = behind.map((request) => difference(request, one, host)).join(', ');
      const { method, target, fields, body } = one;
      const text = JSON.stringify({ method, target, fields, body: body.toString('latin1') });
      return `what arrived was not sent (different in ${how || 'everything'}): ${text}`;
    }
    at += index + 1;
  }
  return undefined;
}

/** When an input has had its answers. */
interface Due {
  readonly answers: number;
  /** Behind them is the beginning of a request. */
  readonly more: boolean;
  /** Without a word for so long, no more are waited for. */
  readonly quietMs: number;
}

const HEALTHY: Due = { answers: 1, more: false, quietMs: HANG_MS / 2 };

/** The statuses that came back; undefined: nothing ended it. */
function send(
  path: string,
  host: string,
  bytes: Buffer,
  due: Due,
  draw: Chance | undefined,
): Promise<readonly string[] | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    let text = '';
    let quiet: NodeJS.Timeout | undefined;
    const statuses = (): string[] =>
      [...text.matchAll(/HTTP\/1\.1 ([2-5]\d\d) /g)].map(([, status]) => status as string);
    const hang = setTimeout(() => {
      socket.destroy();
      resolve(undefined);
    }, HANG_MS);
    const wait = (): void => {
      clearTimeout(quiet);
      const enough = statuses().length >= due.answers;
      if (enough && !due.more) socket.end();
      else quiet = setTimeout(() => socket.end(), enough ? INCOMPLETE_MS : due.quietMs);
    };
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      wait();
    });
    socket.on('close', () => {
      clearTimeout(quiet);
      clearTimeout(hang);
      resolve(statuses());
    });
    const line = { v: 1, dst: '198.18.0.1', port: 80, name: host };
    socket.write(`${JSON.stringify(line)}\n`);
    void inPieces(bytes, draw, (piece) => socket.write(piece)).then(wait);
  });
}

/** At once, or in pieces that arrive one by one. */
async function inPieces(
  bytes: Buffer,
  draw: Chance | undefined,
  write: (piece: Buffer) => void,
): Promise<void> {
  if (draw === undefined || draw.happens(0.7)) return write(bytes);
  for (let at = 0; at < bytes.length; ) {
    const piece = bytes.subarray(at, at + 1 + draw.below(draw.of([3, 40, 400])));
    write(piece);
    at += piece.length;
    await new Promise(setImmediate);
    if (at > 2_000) {
      // Piece by piece to its end would take a second for each input.
      write(bytes.subarray(at));
      return;
    }
  }
}

/**
 * Of what is equal in host, method, path and body there are as many intents as arrivals; of a client
 * that left, its intent alone.
 */
function checkLedger(place: Place, run: string, upstreams: readonly Recorder[]): number {
  const entries = entriesOnDisk(place.session.home).filter((entry) => entry.run === run);
  const answered = new Set(
    entries.flatMap((entry) =>
      entry.type === 'outcome' && entry.status !== undefined ? [entry.call] : [],
    ),
  );
  const counts = new Map<string, { arrivals: number; intents: number; answered: number }>();
  const countOf = (key: string) => {
    const found = counts.get(key) ?? { arrivals: 0, intents: 0, answered: 0 };
    counts.set(key, found);
    return found;
  };
  let intents = 0;
  for (const entry of entries) {
    if (entry.type !== 'intent') continue;
    const { host, port, method, path, body } = entry;
    const count = countOf(`${host}:${port} ${method} ${path} ${body.sha256 ?? NO_BODY}`);
    count.intents += 1;
    if (answered.has(entry.call)) count.answered += 1;
    intents += 1;
  }
  for (const [i, host] of HOSTS.entries()) {
    for (const { method, target, body } of upstreams[i]?.arrivals ?? []) {
      const digest = createHash('sha256').update(body).digest('hex');
      countOf(`${host}:80 ${method} ${target.split('?')[0]} ${digest}`).arrivals += 1;
    }
  }
  for (const [key, { arrivals, intents, answered }] of counts) {
    if (answered > arrivals || arrivals > intents) {
      throw new Error(`${key}: ${intents} intents, ${answered} answered, ${arrivals} arrivals`);
    }
  }
  return intents;
}

function peakOf(pid: number): number {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}

const WORDS = [
  ...[
    '\r\n',
    '\n',
    '\r',
    '\0',
    ' ',
    '\t',
    '\x0b',
    '\x0c',
    '\x85',
    '\xa0',
    '\xe9',
    ':',
    ',',
    ';a=b',
  ],
  ...['\r\n\r\n', '\r\n ', '0\r\n\r\n', '5\r\nhello\r\n', '0x5', '+5', '5 ', '00', '1e1', '-1'],
  ...[
    'Content-Length: 5\r\n',
    'content-length:0\r\n',
    'Content-Length : 5\r\n',
    'Content-Length: 5, 5\r\n',
  ],
  ...[
    'Transfer-Encoding: chunked\r\n',
    'transfer-encoding:\tchunked\r\n',
    'Transfer-Encoding: x\r\n',
  ],
  ...['Transfer-Encoding: chunked, chunked\r\n', 'Transfer-Encoding\r\n', 'Trailer: x\r\n'],
  ...[
    'Connection: close\r\n',
    'Connection: keep-alive\r\n',
    'Connection: x-a, host, content-length\r\n',
  ],
  ...[
    `Host: ${FIRST_HOST}\r\n`,
    'Host: evil.example\r\n',
    `Host: ${FIRST_HOST}:80\r\n`,
    'Host:\r\n',
  ],
  ...[
    'Expect: 100-continue\r\n',
    'Upgrade: websocket\r\n',
    'Upgrade: h2c\r\n',
    'X-A: 1\r\n',
    'X-A: a\r\n b\r\n',
  ],
  ...[
    'GET ',
    'POST ',
    'HEAD ',
    'CONNECT ',
    'TRACE ',
    'OPTIONS ',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ],
  ...[
    ' HTTP/1.1',
    ' HTTP/1.0',
    ' HTTP/0.9',
    ' HTTP/2.0',
    'HTTP/1.1\r\n',
    `http://${FIRST_HOST}`,
    'http://',
  ],
  ...[
    '/',
    '//',
    '/./',
    '/../',
    '%2e%2e',
    '%2f',
    '%2F',
    '%5c',
    '\\',
    '%00',
    '%',
    '%4',
    '%41',
    '?',
    '#',
    '*',
  ],
  ...[
    '/@a%2fb',
    '|',
    '"',
    '<',
    '%zz',
    '..;',
    `GET /hidden HTTP/1.1\r\nHost: ${FIRST_HOST}\r\n\r\n`,
  ],
];

if (import.meta.main) {
  const [seconds = '12', seed = String(Date.now() % 1e6)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await fuzzHttp(Number(seconds), Number(seed)))}\n`);
}
