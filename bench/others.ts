// What rounds of small calls do not show: how many bytes a second a download carries, and how many whole
// handshakes of TLS a second are answered, each with one call: the upstream itself, nginx and Belay in
// turn, with the same client. And how much memory idle connections take, of a daemon that has done
// nothing else yet: one that had work fills what that left free. They come by the run's socket, as the
// bridge would bring them: a bridge has a bound of its own.

import { setTimeout as sleep } from 'node:timers/promises';
import { median, mib, round } from './figures.ts';
import type { Measured } from './load-client.ts';
import { LARGE_PATH } from './origin.ts';
import type { Peer } from './peer.ts';
import { rssBytes } from './processes.ts';
import { measureJob, type RoundsOptions } from './rounds.ts';

export interface OtherFigures {
  readonly downloads: Readonly<Record<string, { readonly mibPerSecond: number }>>;
  /** Median of the rounds' ratios of bytes a second; absent without nginx. */
  readonly downloadsOfNginx?: number;
  readonly handshakes: Readonly<Record<string, Handshakes>>;
  readonly handshakesOfNginx?: number;
}

export interface IdleFigures {
  readonly connections: number;
  readonly mibOverIdle: number;
}

interface Handshakes {
  readonly perSecond: number;
  readonly cpuUs: number;
}

type Options = Pick<
  RoundsOptions,
  'peers' | 'origin' | 'outside' | 'rounds' | 'warmMs' | 'measureMs'
>;

const DOWNLOADS_AT_ONCE = 4;
const HANDSHAKES_AT_ONCE = 8;
const COMPARED = ['direct', 'nginx', 'belay'];
/** A download takes its time. */
const LEAST_SPAN_MS = 1_000;
/** After the calls, until what they needed is given back. */
const SETTLE_MS = 3_000;
const SAMPLE_MS = 100;

/** `sent`: how many calls went through a peer. */
export async function measureOthers(
  options: Options,
): Promise<{ readonly figures: OtherFigures; readonly sent: (name: string) => number }> {
  const { peers, origin, rounds, warmMs } = options;
  const spanMs = Math.max(options.measureMs, LEAST_SPAN_MS);
  const compared = peers.filter(({ name }) => COMPARED.includes(name));
  const sent = new Map<string, number>();
  const measure = async (peer: Peer, part: Parameters<typeof measureJob>[2]): Promise<Measured> => {
    const measured = await measureJob(options, peer, part);
    sent.set(peer.name, (sent.get(peer.name) ?? 0) + measured.sent);
    return measured;
  };
  const loads = {
    downloads: new Map<string, Measured[]>(),
    handshakes: new Map<string, Measured[]>(),
  };
  const parts = {
    downloads: {
      connections: DOWNLOADS_AT_ONCE,
      path: `${LARGE_PATH}/file`,
      bodyBytes: origin.largeBytes,
    },
    handshakes: { connections: HANDSHAKES_AT_ONCE, reconnects: true },
  } as const;
  for (let n = 0; n < rounds; n++) {
    for (const kind of ['downloads', 'handshakes'] as const) {
      for (const peer of compared) {
        const found = loads[kind].get(peer.name) ?? [];
        found.push(await measure(peer, { ...parts[kind], warmMs, measureMs: spanMs }));
        loads[kind].set(peer.name, found);
      }
    }
  }

  const perSecond = ({ requests, seconds }: Measured): number => requests / seconds;
  const ofNginx = (found: ReadonlyMap<string, readonly Measured[]>): number | undefined => {
    const [ours, theirs] = [found.get('belay'), found.get('nginx')];
    if (ours === undefined || theirs === undefined) return undefined;
    return round(median(ours.map((one, i) => perSecond(one) / perSecond(theirs[i] as Measured))));
  };
  const [downloadsOfNginx, handshakesOfNginx] = [
    ofNginx(loads.downloads),
    ofNginx(loads.handshakes),
  ];
  return {
    sent: (name) => sent.get(name) ?? 0,
    figures: {
      downloads: Object.fromEntries(
        [...loads.downloads].map(([name, found]) => [
          name,
          { mibPerSecond: mib(median(found.map(perSecond)) * origin.largeBytes) },
        ]),
      ),
      ...(downloadsOfNginx === undefined ? {} : { downloadsOfNginx }),
      handshakes: Object.fromEntries(
        [...loads.handshakes].map(([name, found]) => [
          name,
          {
            perSecond: Math.round(median(found.map(perSecond))),
            cpuUs: Math.round(median(found.map((one) => one.peerCpuNs / 1000 / one.requests))),
          },
        ]),
      ),
      ...(handshakesOfNginx === undefined ? {} : { handshakesOfNginx }),
    },
  };
}

/** `sent`: how many calls went through the gateway. */
export async function measureIdle(
  options: Omit<Options, 'rounds'>,
  connections: number,
): Promise<IdleFigures & { readonly sent: number }> {
  const { peers, warmMs, measureMs } = options;
  const gateway = peers.find(({ name }) => name === 'belay-gateway');
  if (gateway === undefined) throw new Error('no gateway to hold connections');
  const first = await measureJob(options, gateway, { connections: 1, warmMs, measureMs });
  await sleep(SETTLE_MS);
  const beforeBytes = rssBytes(gateway.pids());
  const held = measureJob(options, gateway, {
    connections,
    warmMs: SETTLE_MS,
    measureMs: measureMs + SETTLE_MS,
    holds: true,
  });
  const samples: number[] = [];
  const over = held.then(
    () => true,
    () => true,
  );
  while (!(await Promise.race([over, sleep(SAMPLE_MS)]))) samples.push(rssBytes(gateway.pids()));
  const { sent } = await held;
  // In the end they are all open, and have been idle for a while.
  const settled = samples.slice(-Math.ceil(measureMs / SAMPLE_MS));
  return {
    connections,
    mibOverIdle: mib(median(settled) - beforeBytes),
    sent: first.sent + sent,
  };
}
