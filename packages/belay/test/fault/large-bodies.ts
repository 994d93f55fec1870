// Bodies of 10 GB, one down and one up through the whole road: every byte arrives, the outcomes hold
// their digests, and the daemon's memory does not grow with them.
//
//   node large-bodies.ts [BYTES]

import { createHash, type Hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { eventually, NODE, openPlace } from '../system/place.ts';
import { startUpstream } from '../system/upstreams.ts';

export const covers = [
  'packages/belay/src/gateway',
  'packages/belay/src/monitor',
  'packages/belay/src/upstream',
];
const FULL_BYTES = 10_000_000_000;
const CHUNK_BYTES = 100_000;
/** What the engine takes for buffers that are on their way, whatever passes in all. */
const MOST_GROWTH_BYTES = 160 << 20;
/** Both bodies at 5 MB/s, and a start. */
const withinMs = (bytes: number): number => 60_000 + (2 * bytes) / 5_000;

export interface BodyFigures {
  readonly bytes: number;
  readonly downSeconds: number;
  readonly upSeconds: number;
  readonly growthBytes: number;
}

/** Throws when a promise does not hold. */
export async function prove({ scale }: { readonly scale: number }): Promise<BodyFigures> {
  return await largeBodies(FULL_BYTES * scale);
}

async function largeBodies(bytes: number): Promise<BodyFigures> {
  const chunks = Math.round(bytes / CHUNK_BYTES);
  const seen = { down: createHash('sha256'), up: createHash('sha256') };
  await using upstream = await startUpstream(['api.example']);
  upstream.answer = (request, reply) => {
    if (request.method === 'GET' && request.url === '/down') return send(reply, chunks, seen.down);
    request.on('data', (chunk: Buffer) => seen.up.update(chunk));
    request.on('end', () => reply.end('ok\n'));
  };
  await using place = await openPlace({
    allow: ['api.example'],
    upstreams: { 'api.example': upstream },
  });
  // The first call warms up what a daemon loads once.
  await place.run([], ['curl', '-sS', 'https://api.example/']);
  const { pid } = await place.status();
  const before = peakOf(pid);
  const started = place.start([], [NODE, '-e', AGENT, String(chunks)]);
  const run = await place.openRun();
  await eventually('both bodies', () => started.child.exitCode ?? undefined, withinMs(bytes));
  if ((await started.ended).status !== 0) throw new Error(started.stderr());
  const growthBytes = peakOf(pid) - before;
  const told = JSON.parse(started.stdout()) as Record<
    'down' | 'up',
    { sha256: string; seconds: number }
  >;

  const outcomes = (await place.entries(run)).flatMap((one) =>
    one.type === 'outcome' ? [one] : [],
  );
  const [down, up] = outcomes;
  const digests = {
    down: [seen.down.digest('hex'), told.down.sha256, down?.receivedSha256],
    up: [seen.up.digest('hex'), told.up.sha256, up?.sentSha256],
  };
  for (const [way, found] of Object.entries(digests)) {
    if (new Set(found).size !== 1) throw new Error(`${way}: the digests differ: ${found}`);
  }
  const moved = [down?.receivedBytes, up?.sentBytes];
  if (moved.some((one) => one !== chunks * CHUNK_BYTES)) throw new Error(`moved ${moved}`);
  if (growthBytes > MOST_GROWTH_BYTES) throw new Error(`the daemon grew by ${growthBytes} bytes`);
  return {
    bytes: chunks * CHUNK_BYTES,
    downSeconds: told.down.seconds,
    upSeconds: told.up.seconds,
    growthBytes,
  };
}

function send(reply: NodeJS.WritableStream, chunks: number, hash: Hash): void {
  let n = 0;
  const more = (): void => {
    while (n < chunks) {
      const chunk = Buffer.alloc(CHUNK_BYTES, n & 0xff);
      n += 1;
      hash.update(chunk);
      if (!reply.write(chunk)) return void reply.once('drain', more);
    }
    reply.end();
  };
  more();
}

/** Down, then up; says what it saw. */
const AGENT = `const https = require('https'), { createHash } = require('crypto');
const chunks = Number(process.argv[1]);
const timed = async (act) => {
  const at = Date.now();
  const sha256 = await act();
  return { sha256, seconds: Math.round((Date.now() - at) / 100) / 10 };
};
const down = () => new Promise((resolve, reject) => {
  https.get('https://api.example/down', (r) => {
    const hash = createHash('sha256');
    r.on('data', (c) => hash.update(c)).on('end', () => resolve(hash.digest('hex'))).on('error', reject);
  }).on('error', reject);
});
const up = () => new Promise((resolve, reject) => {
  const hash = createHash('sha256');
  const asked = https.request('https://api.example/up', { method: 'POST' }, (r) => {
    r.resume().on('end', () => resolve(hash.digest('hex')));
  }).on('error', reject);
  let n = 0;
  const more = () => {
    while (n < chunks) {
      const chunk = Buffer.alloc(${CHUNK_BYTES}, n & 0xff);
      n += 1;
      hash.update(chunk);
      if (!asked.write(chunk)) return asked.once('drain', more);
    }
    asked.end();
  };
  more();
});
(async () => {
  console.log(JSON.stringify({ down: await timed(down), up: await timed(up) }));
  process.exit(0);
})();`;

function peakOf(pid: number): number {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}

if (import.meta.main) {
  const [bytes = '200000000'] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await largeBodies(Number(bytes)))}\n`);
}
