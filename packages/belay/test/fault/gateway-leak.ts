// After thousands of connections of every kind, ended in every way (inside/mixed-connections.mjs), the
// daemon holds as many descriptors as after a few, its memory is where it was, its upstreams have no
// connection of it, and each intent has its outcome.
//
//   node gateway-leak.ts [CONNECTIONS]

import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { entriesOnDisk } from '../system/ledger-files.ts';
import { eventually, NODE, openPlace } from '../system/place.ts';
import { startRawUpstream, startUpstream } from '../system/upstreams.ts';

export const covers = ['packages/belay/src/gateway', 'packages/belay/src/upstream'];
const FULL_CONNECTIONS = 100_000;
const FEW = 600;
const MS_PER_CONNECTION = 60;
/** Connections to upstreams are kept this long for whoever asks next. */
const KEPT_MS = 16_000;
/** However many there were: what the engine keeps of its heap after a burst. */
const MOST_GROWTH_BYTES = 256 << 20;

export interface LeakFigures {
  readonly connections: number;
  readonly seconds: number;
  readonly intents: number;
  readonly descriptors: { readonly before: number; readonly after: number };
  readonly memoryBytes: { readonly before: number; readonly after: number };
}

/** Throws when a promise does not hold. */
export async function prove({ scale }: { readonly scale: number }): Promise<LeakFigures> {
  return await mixedConnections(Math.round(FULL_CONNECTIONS * scale));
}

async function mixedConnections(connections: number): Promise<LeakFigures> {
  await using upstream = await startUpstream(['api.example']);
  upstream.answer = (request, reply) => {
    if (request.url !== '/slow') return void reply.end('ok\n');
    reply.write('begin');
    const timer = setTimeout(() => reply.end('end'), 500);
    reply.on('close', () => clearTimeout(timer));
  };
  upstream.upgrade = (_request, socket) => {
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nx',
    );
  };
  await using echo = await startRawUpstream(undefined, (socket) => {
    socket.on('data', (chunk) => socket.write(chunk)).on('end', () => socket.end());
  });
  await using place = await openPlace({
    allow: ['api.example', 'tcp://db.example:5432'],
    upstreams: {
      'api.example': upstream,
      'db.example': { address: echo.address, scheme: 'http' },
    },
  });
  const script = join(place.workdir, 'mixed.mjs');
  copyFileSync(join(import.meta.dirname, '../system/inside/mixed-connections.mjs'), script);
  const started = place.start([], [NODE, script, String(FEW), String(connections), place.workdir]);
  const said = (word: string, withinMs: number) =>
    eventually(
      word,
      () => {
        if (started.child.exitCode !== null) throw new Error(started.stderr());
        return started.stdout().includes(`${word}\n`) || undefined;
      },
      withinMs,
    );
  const run = await place.openRun();
  const { pid } = await place.status();
  const settled = async () => {
    await sleep(KEPT_MS);
    return { descriptors: readdirSync(`/proc/${pid}/fd`).length, memory: memoryOf(pid) };
  };
  await said('few', 60_000);
  const before = await settled();
  const startMs = performance.now();
  writeFileSync(join(place.workdir, 'more'), '');
  await said('many', 60_000 + connections * MS_PER_CONNECTION);
  const seconds = Math.round((performance.now() - startMs) / 1000);
  const after = await settled();
  const left = { upstream: await upstream.connections(), echo: await echo.connections() };
  writeFileSync(join(place.workdir, 'end'), '');
  await started.ended;

  const entries = entriesOnDisk(place.session.home).filter((entry) => entry.run === run);
  const intents = new Set(entries.flatMap((one) => (one.type === 'intent' ? [one.call] : [])));
  for (const entry of entries) if (entry.type === 'outcome') intents.delete(entry.call);
  const figures = {
    connections,
    seconds,
    intents: entries.filter(({ type }) => type === 'intent').length,
    descriptors: { before: before.descriptors, after: after.descriptors },
    memoryBytes: { before: before.memory, after: after.memory },
  };
  const shown = JSON.stringify({ ...figures, left, open: intents.size });
  if (intents.size > 0) throw new Error(`intents without an outcome: ${shown}`);
  if (after.descriptors > before.descriptors) throw new Error(`descriptors stay: ${shown}`);
  if (left.upstream + left.echo > 0) throw new Error(`upstream connections stay: ${shown}`);
  if (after.memory > before.memory + MOST_GROWTH_BYTES) throw new Error(`memory grew: ${shown}`);
  return figures;
}

function memoryOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib ?? 0) * 1024;
}

if (import.meta.main) {
  const [connections = '2000'] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await mixedConnections(Number(connections)))}\n`);
}
