// From rounds to figures, from figures to verdicts, and both to a table.

import { mib, round } from './figures.ts';
import type { Measured } from './load-client.ts';
import type { IdleFigures, OtherFigures } from './others.ts';
import type { Missing } from './peer.ts';
import { cpuUsPerRequest, medianOf, type Row, ratio, requestsPerSecond } from './rounds.ts';

export interface Subject {
  readonly subject: string;
  readonly connections: number;
  readonly requestsPerSecond: number;
  readonly least: number;
  readonly most: number;
  /** Of requests per second, median of the rounds' ratios; absent without that peer. */
  readonly ofNginx?: number;
  readonly ofSquid?: number;
  /** The same of what a second of processor time carries: blind to how busy the other core is. */
  readonly ofNginxByCpu?: number;
  readonly ofSquidByCpu?: number;
  readonly cpuUsPerRequest: number;
  /** Of which on the other core, in the bridge. */
  readonly bridgeCpuUsPerRequest?: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Above the same client at the upstream itself. */
  readonly addedP50Ms: number;
  /** Above the same client at nginx, which opens TLS on both sides too. */
  readonly addedToNginxP50Ms?: number;
  readonly addedP99Ms: number;
  /** How busy load generator, upstream and bridge keep their core: near 1, they are the limit. */
  readonly loadCoreBusy: number;
}

export interface Target {
  readonly what: string;
  readonly found: number;
  readonly limit: number;
  readonly rule: 'at least' | 'at most';
  /** Absent: what it depends on was not there. */
  readonly met?: boolean;
  readonly note?: string;
}

const p50 = (sample: Measured): number => sample.p50Ms;
const p99 = (sample: Measured): number => sample.p99Ms;
const perCpuSecond = (sample: Measured): number => 1 / cpuUsPerRequest(sample);

export function subjectsOf(rows: readonly Row[]): readonly Subject[] {
  return rows.map((row) => {
    const { peer, connections, measured } = row;
    const beside = (name: string): Row | undefined =>
      rows.find((other) => other.peer.name === name && other.connections === connections);
    const [direct, nginx, squid] = ['direct', 'nginx', 'squid'].map(beside);
    const through = peer.name !== 'direct';
    const speeds = measured.map(requestsPerSecond);
    const against = (other: Row | undefined, figure: (sample: Measured) => number) =>
      other === undefined || !through ? undefined : round(ratio(row, other, figure));
    const above = (other: Row | undefined, figure: (sample: Measured) => number) =>
      other === undefined ? undefined : round(medianOf(row, figure) - medianOf(other, figure));
    return withoutUndefined({
      subject: peer.name,
      connections,
      requestsPerSecond: Math.round(medianOf(row, requestsPerSecond)),
      least: Math.round(Math.min(...speeds)),
      most: Math.round(Math.max(...speeds)),
      ofNginx: against(nginx, requestsPerSecond),
      ofSquid: against(squid, requestsPerSecond),
      ofNginxByCpu: against(nginx, perCpuSecond),
      ofSquidByCpu: against(squid, perCpuSecond),
      cpuUsPerRequest: round(medianOf(row, cpuUsPerRequest)),
      bridgeCpuUsPerRequest:
        peer.load === undefined
          ? undefined
          : round(medianOf(row, (sample) => sample.bridgeCpuNs / 1000 / sample.requests)),
      p50Ms: round(medianOf(row, p50)),
      p99Ms: round(medianOf(row, p99)),
      addedP50Ms: above(direct, p50) ?? 0,
      addedToNginxP50Ms: through ? above(nginx, p50) : undefined,
      addedP99Ms: above(direct, p99) ?? 0,
      loadCoreBusy: round(
        medianOf(row, (sample) => sample.loadCpuNs / 1e9 / sample.seconds),
        2,
      ),
    });
  });
}

function withoutUndefined<T extends object>(
  value: T,
): { [K in keyof T]: Exclude<T[K], undefined> } & Subject {
  return Object.fromEntries(
    Object.entries(value).filter(([, found]) => found !== undefined),
  ) as never;
}

export interface Circumstances {
  readonly fdatasyncP50Ms: number;
  readonly warmStartMs: number;
  readonly idleDaemonRssBytes: number;
  readonly others: OtherFigures;
  readonly idle: IdleFigures;
}

const SYNC_LIMIT_MS = 0.3;

export function targetsOf(
  subjects: readonly Subject[],
  { fdatasyncP50Ms, warmStartMs, idleDaemonRssBytes, others, idle }: Circumstances,
): readonly Target[] {
  const find = (connections: number): Subject | undefined =>
    subjects.find((row) => row.subject === 'belay' && row.connections === connections);
  const many = find(64);
  const one = find(1);
  // The smaller one: throughput flatters when the load generator is the limit, processor time when
  // something waits.
  const least = (...values: readonly (number | undefined)[]): number =>
    Math.min(...values.map((value) => value ?? Number.NaN));
  const against = (peer: string, found: number, limit: number): Target =>
    judged(`share of ${peer}, 64 connections`, found, 'at least', limit);
  const latency = (over: string, found: number | undefined): Target => {
    const what = `p50 in ms added to ${over}, 1 connection`;
    const target = judged(what, found ?? Number.NaN, 'at most', 0.5);
    if (fdatasyncP50Ms <= SYNC_LIMIT_MS || target.met !== false) return target;
    const { met: _met, ...open } = target;
    return {
      ...open,
      note: `fdatasync takes ${fdatasyncP50Ms} ms here; the target holds up to ${SYNC_LIMIT_MS} ms`,
    };
  };
  return [
    against('nginx', least(many?.ofNginx, many?.ofNginxByCpu), 0.18),
    against('squid', least(many?.ofSquid, many?.ofSquidByCpu), 0.6),
    judged('CPU in µs a call, 64 connections', many?.cpuUsPerRequest ?? Number.NaN, 'at most', 120),
    judged(
      'share of nginx, bytes of downloads',
      others.downloadsOfNginx ?? Number.NaN,
      'at least',
      0.4,
    ),
    latency('nginx', one?.addedToNginxP50Ms),
    latency('the upstream itself', one?.addedP50Ms),
    judged('warm start of a run in ms', round(warmStartMs), 'at most', 800),
    judged('idle daemon in MiB', mib(idleDaemonRssBytes), 'at most', 150),
    judged(
      `MiB over idle of ${idle.connections} idle connections`,
      idle.mibOverIdle,
      'at most',
      100,
    ),
  ];
}

function judged(what: string, found: number, rule: Target['rule'], limit: number): Target {
  const target = { what, found, rule, limit };
  if (Number.isNaN(found)) return { ...target, note: 'its peer is missing' };
  return { ...target, met: rule === 'at least' ? found >= limit : found <= limit };
}

/** What a person reads. */
export function tableOf(
  subjects: readonly Subject[],
  memory: Readonly<Record<string, number>>,
  targets: readonly Target[],
  missing: readonly Missing[],
): string {
  const head = [
    ...['subject', 'conns', 'req/s', 'of nginx', 'by cpu', 'of squid', 'by cpu'],
    ...['cpu us/req', 'p50 ms', 'p99 ms', 'p50 added', 'peak MiB', 'other core'],
  ];
  const rows = subjects.map((row) => [
    row.subject,
    row.connections,
    row.requestsPerSecond,
    row.ofNginx ?? '',
    row.ofNginxByCpu ?? '',
    row.ofSquid ?? '',
    row.ofSquidByCpu ?? '',
    row.cpuUsPerRequest || '',
    row.p50Ms,
    row.p99Ms,
    row.addedP50Ms || '',
    memory[row.subject] ?? '',
    row.loadCoreBusy,
  ]);
  const lines = [
    aligned([head, ...rows]),
    ...missing.map(({ name, reason }) => `missing: ${name}: ${reason}`),
    aligned(
      targets.map(({ what, found, rule, limit, met, note }) => [
        met === undefined ? 'open' : met ? 'met' : 'MISSED',
        what,
        `${found} (${rule} ${limit})${note === undefined ? '' : `: ${note}`}`,
      ]),
    ),
  ];
  return `${lines.join('\n\n')}\n`;
}

/** Words to the left, numbers to the right. */
function aligned(rows: readonly (readonly (string | number)[])[]): string {
  const width = (column: number): number =>
    Math.max(...rows.map((row) => String(row[column] ?? '').length));
  const last = (rows[0]?.length ?? 0) - 1;
  return rows
    .map((row) =>
      row
        .map((cell, i) => {
          if (i === last && typeof cell === 'string') return cell;
          return i === 0 || last === 2
            ? String(cell).padEnd(width(i))
            : String(cell).padStart(width(i));
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
