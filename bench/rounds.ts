// The rounds: in each, every subject is measured once at each number of connections, in an order of
// the round's own, so that whatever else the machine does falls on all of them. The first round only
// warms up. INVARIANT: a round in which anything but the upstream's own answer came back, or in which
// a request reached the upstream without its credential, fails the bench: errors are no requests.

import { median, shuffled } from './figures.ts';
import type { Job } from './load.ts';
import type { LoadClient, Measured } from './load-client.ts';
import type { Peer } from './peer.ts';
import type { Origin } from './upstream.ts';

export interface RoundsOptions {
  readonly peers: readonly Peer[];
  readonly origin: Origin;
  /** The load generator of peers that have none of their own. */
  readonly outside: { readonly client: LoadClient; readonly pid: number };
  readonly rounds: number;
  readonly warmMs: number;
  readonly measureMs: number;
  /** Compilers need calls, not rounds: how long the round before the first one is. */
  readonly warmRoundMs: number;
  readonly random: () => number;
  /** Before each round. */
  readonly onRound: (round: number) => void;
}

/** One subject at one number of connections, over all rounds. */
export interface Row {
  readonly peer: Peer;
  readonly connections: number;
  readonly measured: readonly Measured[];
}

export const CONNECTIONS = [1, 64] as const;
const WARM_ROUND_CONNECTIONS = 64;
const WARM_ROUND_MEASURE_MS = 400;

/** Rows in the order of `peers`; and how many calls went through each, errors being none. */
export async function measureRounds(options: RoundsOptions): Promise<{
  readonly rows: readonly Row[];
  readonly sent: (name: string) => number;
}> {
  const { peers, rounds, random, onRound } = options;
  const pairs = CONNECTIONS.flatMap((connections) =>
    peers.map((peer) => ({ peer, connections, measured: [] as Measured[] })),
  );
  const sent = new Map<string, number>();
  for (let round = 0; round <= rounds; round++) {
    onRound(round);
    for (const { peer, connections, measured } of shuffled(pairs, random)) {
      if (round === 0 && connections !== WARM_ROUND_CONNECTIONS) continue;
      const found = await measureOne(options, peer, connections, round === 0);
      sent.set(peer.name, (sent.get(peer.name) ?? 0) + found.sent);
      if (round > 0) measured.push(found);
    }
  }
  return { rows: pairs, sent: (name) => sent.get(name) ?? 0 };
}

async function measureOne(
  options: RoundsOptions,
  peer: Peer,
  connections: number,
  warmUp: boolean,
): Promise<Measured> {
  const { warmMs, measureMs, warmRoundMs } = options;
  return await measureJob(options, peer, {
    connections,
    warmMs: warmUp ? warmRoundMs : warmMs,
    measureMs: warmUp ? WARM_ROUND_MEASURE_MS : measureMs,
  });
}

/** One subject once. Throws when anything but the upstream's answers came back. */
export async function measureJob(
  { origin, outside }: Pick<RoundsOptions, 'origin' | 'outside'>,
  peer: Peer,
  part: Pick<Job, 'connections' | 'warmMs' | 'measureMs'> & Partial<Job>,
): Promise<Measured> {
  const { connections } = part;
  const job: Job = {
    way: peer.way,
    authorization: peer.authorization,
    bodyBytes: origin.bodyBytes,
    newPaths: peer.newPaths === true,
    ...part,
  };
  const load = peer.load ?? { client: outside.client, pids: () => [outside.pid] };
  const bridge = peer.load === undefined ? [] : [peer.load.bridgePid];
  const before = await origin.counts();
  const watched = {
    peer: peer.pids(),
    load: [...load.pids(), origin.pid],
    bridge,
  };
  let measured: Measured;
  try {
    measured = await load.client.measure(job, watched);
  } catch (error) {
    throw new Error(`${peer.name} at ${connections} connections`, { cause: error });
  }
  const after = await origin.counts();
  const problem = problemOf(peer, job, measured, {
    requests: after.requests - before.requests,
    withoutToken: after.withoutToken - before.withoutToken,
  });
  if (problem !== undefined) {
    throw new Error(`${peer.name} at ${connections} connections: ${problem}`);
  }
  return measured;
}

function problemOf(
  peer: Peer,
  { holds }: Job,
  { errors, requests, issuer }: Measured,
  arrived: { readonly requests: number; readonly withoutToken: number },
): string | undefined {
  if (errors.length > 0) return `${errors.length} or more errors: ${errors[0]}`;
  if (requests === 0 && holds === undefined) return 'no answer at all';
  if (issuer !== peer.issuer) return `its certificate is signed by \`${issuer}\``;
  if (arrived.requests < requests) {
    return `${requests} answers, but ${arrived.requests} requests at the upstream`;
  }
  if (arrived.withoutToken > 0) {
    return `${arrived.withoutToken} requests came without their credential`;
  }
  return undefined;
}

export const requestsPerSecond = ({ requests, seconds }: Measured): number => requests / seconds;
export const cpuUsPerRequest = ({ peerCpuNs, requests }: Measured): number =>
  peerCpuNs / 1000 / requests;

/** The median over the rounds of `a` divided by `b`, each in its own round. */
export function ratio(a: Row, b: Row, figure: (sample: Measured) => number): number {
  return median(a.measured.map((sample, i) => figure(sample) / figure(b.measured[i] as Measured)));
}

export function medianOf({ measured }: Row, figure: (sample: Measured) => number): number {
  return median(measured.map(figure));
}
