// Thousands of ordinary requests, once straight to an origin and once through the installed Belay out
// of a sandbox, by the same client: the origin receives equal requests, and the client equal answers,
// byte for byte. What may differ is hop-by-hop (RFC 9110 section 7.6.1), how a body is framed, the
// order of `host`, and interim answers, which the gateway gives itself. Each request that arrived is
// one intent in the ledger, with the status that its client heard.
//
//   node differential.ts [REQUESTS] [SEED]

import { createHash } from 'node:crypto';
import { copyFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Finished } from '../installed.ts';
import { NODE, openPlace, type Place } from '../system/place.ts';
import { startUpstream, type Upstream } from '../system/upstreams.ts';
import {
  answerBytes,
  type Fields,
  type Planned,
  type PlannedConnection,
  planConnections,
} from './ordinary-requests.ts';

export const covers = [
  'packages/belay/src/gateway',
  'packages/belay/src/monitor',
  'packages/belay/src/upstream',
];
const FULL_REQUESTS = 5_000;
const HOST = 'api.example';
const HOP_BY_HOP = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding'],
  ...['upgrade', 'expect', 'host', 'content-length'],
]);
const SHOWN_DIFFERENCES = 5;
const LATE_MS = 10;

export interface DifferentialFigures {
  readonly requests: number;
  readonly connections: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly withTrailers: number;
  readonly streamed: number;
}

/** What an origin received of one request. */
interface Received {
  readonly method: string;
  readonly target: string;
  readonly host: string | undefined;
  readonly fields: Fields;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** What a client heard of one answer, as the program inside prints it. */
interface Heard {
  readonly n: number;
  readonly status: number;
  readonly fields: Fields;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly trailers: Fields;
}

interface Side {
  readonly received: ReadonlyMap<number, Received>;
  readonly heard: ReadonlyMap<number, Heard>;
}

/** Throws when a promise does not hold. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<DifferentialFigures> {
  return await compare(Math.round(FULL_REQUESTS * size.scale), size.seed);
}

async function compare(count: number, seed: number): Promise<DifferentialFigures> {
  const plan = planConnections(count, seed);
  const requests = plan.flatMap((connection) => connection.requests);
  const timeoutMs = 60_000 + 50 * count;
  await using origin = await startUpstream([HOST]);
  await using place = await openPlace({
    allow: [HOST],
    caps: { calls: 1_000_000, bytes: '100GB' },
    upstreams: { [HOST]: origin },
  });
  const script = join(place.workdir, 'differential.mjs');
  copyFileSync(join(import.meta.dirname, '../system/inside/differential.mjs'), script);
  const command = [NODE, script, place.put('plan.json', JSON.stringify(plan)), HOST];

  const direct = await observe(origin, requests, () =>
    place.outside([...command, origin.address], { timeoutMs }),
  );
  const through = await observe(origin, requests, () => place.run([], command, { timeoutMs }));

  const problems = [
    ...requests.flatMap((planned) => differences(planned, direct, through)),
    ...(await unrecorded(place, requests, through)),
  ];
  if (problems.length > 0) {
    const shown = problems.slice(0, SHOWN_DIFFERENCES).join('\n');
    throw new Error(`seed ${seed}: ${problems.length} differences, among them\n${shown}`);
  }
  return figuresOf(plan, through);
}

/** Runs a client against an origin that keeps to the plan; throws when it did not come to its end. */
async function observe(
  origin: Upstream,
  requests: readonly Planned[],
  run: () => Promise<Finished>,
): Promise<Side> {
  const byNumber = new Map(requests.map((planned) => [planned.n, planned]));
  const received = new Map<number, Received>();
  origin.answer = (request, reply) => {
    const planned = byNumber.get(Number(request.url?.split(/[/?]/)[2]));
    if (planned === undefined) return void request.socket.destroy();
    const hash = createHash('sha256');
    let sizeBytes = 0;
    request.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      sizeBytes += chunk.length;
    });
    request.on('end', () => {
      // Twice is as wrong as never, and seen by its size.
      const before = received.get(planned.n)?.sizeBytes ?? 0;
      received.set(planned.n, {
        method: request.method ?? '',
        target: request.url ?? '',
        host: request.headers.host,
        fields: endToEnd(pairs(request.rawHeaders)),
        sizeBytes: sizeBytes + before,
        sha256: hash.digest('hex'),
      });
      answer(planned, request, reply);
    });
  };
  const { status, stdout, stderr } = await run();
  if (status !== 0) throw new Error(`the client ended with ${status}: ${stderr}`);
  const lines = stdout.split('\n').filter((line) => line !== '');
  const heard = lines.map((line) => JSON.parse(line) as Heard);
  return { received, heard: new Map(heard.map((one) => [one.n, one])) };
}

function answer(planned: Planned, request: IncomingMessage, reply: ServerResponse): void {
  const { status, fields, framing, trailers, pieces, late } = planned.answer;
  const body = answerBytes(planned.n, planned.answer);
  reply.sendDate = false;
  const more: Fields = [
    ...(framing === 'length' ? [['Content-Length', String(body.length)] as const] : []),
    ...(framing === 'close' ? [['Connection', 'close'] as const] : []),
    ...(planned.answer.coding === undefined
      ? []
      : [['Content-Encoding', planned.answer.coding] as const]),
    ...(trailers.length > 0 ? [['Trailer', trailers.map(([name]) => name).join()] as const] : []),
  ];
  // Neither a length nor chunks: the end of the connection is the end of the body.
  if (framing === 'close') reply.useChunkedEncodingByDefault = false;
  if (planned.n % 50 === 0) reply.writeEarlyHints({ link: '</style.css>; rel=preload' });
  reply.writeHead(
    status,
    [...fields, ...more].flatMap((field) => [...field]),
  );
  const finish = (): void => {
    const size = Math.ceil(body.length / pieces) || 1;
    for (let at = 0; at < body.length; at += size) reply.write(body.subarray(at, at + size));
    if (trailers.length > 0) {
      reply.addTrailers(trailers.map(([name, value]): [string, string] => [name, value]));
    }
    reply.end();
  };
  if (request.method === 'HEAD' || framing === 'none') {
    reply.end();
  } else if (late) {
    // Not `flushHeaders`: it writes the head in UTF-8.
    reply.write('', 'latin1');
    setTimeout(finish, LATE_MS);
  } else {
    finish();
  }
}

function pairs(raw: readonly string[]): Fields {
  return Array.from({ length: raw.length / 2 }, (_, i) => [
    (raw[2 * i] as string).toLowerCase(),
    raw[2 * i + 1] as string,
  ]);
}

function endToEnd(fields: Fields): Fields {
  return fields.filter(([name]) => !HOP_BY_HOP.has(name));
}

function differences(planned: Planned, direct: Side, through: Side): readonly string[] {
  const { n, method, target } = planned;
  const problems: string[] = [];
  const compared = (what: string, ours: object | undefined, theirs: object | undefined): void => {
    if (isDeepStrictEqual(ours, theirs) && ours !== undefined) return;
    const keys = Object.keys({ ...ours, ...theirs }) as never[];
    const odd = keys.filter((key) => !isDeepStrictEqual(ours?.[key], theirs?.[key]));
    const both = odd.map((key) => {
      const texts = [theirs?.[key], ours?.[key]].map((value) => JSON.stringify(value));
      return `${key}: direct ${texts[0]}, through Belay ${texts[1]}`;
    });
    problems.push(`${n} ${method} ${target.slice(0, 100)}: ${what}: ${both.join('; ')}`);
  };
  compared('received', through.received.get(n), direct.received.get(n));
  const [ours, theirs] = [through.heard.get(n), direct.heard.get(n)].map(
    (heard) => heard && { ...heard, fields: endToEnd(heard.fields) },
  );
  compared('heard', ours, theirs);
  const lengths = [through.heard.get(n), direct.heard.get(n)].map((heard) => lengthOf(heard));
  // Without a body the length is a statement about another answer, and has to stay.
  const stated = method === 'HEAD' || planned.answer.status === 304;
  if (stated && lengths[0] !== lengths[1]) {
    problems.push(`${n} ${method}: a length of ${lengths[1]} became ${lengths[0]}`);
  }
  return problems;
}

function lengthOf(heard: Heard | undefined): string | undefined {
  return heard?.fields.find(([name]) => name === 'content-length')?.[1];
}

/** Compares the ledger with what arrived and what was heard. */
async function unrecorded(
  place: Place,
  requests: readonly Planned[],
  { heard, received }: Side,
): Promise<readonly string[]> {
  const entries = await place.entries();
  const intents = new Map(
    entries.flatMap((entry) => (entry.type === 'intent' ? [[entry.path, entry] as const] : [])),
  );
  const outcomes = new Map(
    entries.flatMap((entry) => (entry.type === 'outcome' ? [[entry.call, entry] as const] : [])),
  );
  const all = entries.filter(({ type }) => type === 'intent').length;
  const problems = all === requests.length ? [] : [`${all} intents of ${requests.length} requests`];
  for (const { n, method, target } of requests) {
    const intent = intents.get(target.split('?')[0] as string);
    if (intent === undefined || intent.method !== method) {
      problems.push(`${n} ${method} ${target.slice(0, 100)}: no intent`);
      continue;
    }
    const outcome = outcomes.get(intent.call);
    const { status, sizeBytes: receivedBytes } = heard.get(n) ?? {};
    const sentBytes = received.get(n)?.sizeBytes;
    const found = { ...outcome };
    const expected = { status, receivedBytes, sentBytes };
    if (Object.entries(expected).some(([key, value]) => found[key as 'status'] !== value)) {
      problems.push(`${n}: ${JSON.stringify(outcome)} is not ${JSON.stringify(expected)}`);
    }
  }
  return problems;
}

function figuresOf(
  plan: readonly PlannedConnection[],
  { heard, received }: Side,
): DifferentialFigures {
  const sum = (sizes: Iterable<{ readonly sizeBytes: number }>): number =>
    [...sizes].reduce((all, { sizeBytes }) => all + sizeBytes, 0);
  const answers = [...heard.values()];
  return {
    requests: answers.length,
    connections: plan.length,
    sentBytes: sum(received.values()),
    receivedBytes: sum(answers),
    withTrailers: answers.filter(({ trailers }) => trailers.length > 0).length,
    streamed: [...received.values()].filter(({ sizeBytes }) => sizeBytes > 1 << 20).length,
  };
}

if (import.meta.main) {
  const [count = '500', seed = String(Date.now() % 1e6)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await compare(Number(count), Number(seed)))}\n`);
}
