// Where a system test happens: a session of the installed program, a workspace with a configuration,
// the probe in it, and the ledger as `belay` shows it. The control of a check runs the same probe
// outside, as the uid that the agent has.

import type { ChildProcess } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DenialEntry, Entry } from '../../src/core/entry.ts';
import {
  type Finished,
  type Invocation,
  openSession,
  type Session,
  type SessionOptions,
} from '../installed.ts';
import type { Upstream } from './upstreams.ts';

export const NODE = process.execPath;
const PROBES = ['probe.mjs', 'kernel-probe.mjs'];

/** What `belay run --json` writes on stderr at its end. */
export interface Summary {
  readonly run: string;
  readonly calls: number;
  readonly denials: number;
  readonly denied: readonly {
    readonly host: string;
    readonly port: number;
    readonly method: string;
    readonly code: string;
    readonly count: number;
    readonly remedy: string | null;
  }[];
  readonly bytes: number;
}

export interface RunResult extends Finished {
  readonly summary: Summary | undefined;
}

/** What came of one attempt of the probe. */
export interface Attempted {
  readonly name: string;
  // biome-ignore lint/suspicious/noExplicitAny: each attempt has a shape of its own
  readonly value?: any;
  readonly error?: string;
}

export type Attempt = readonly [name: string, ...args: unknown[]];

export interface Place extends AsyncDisposable {
  readonly session: Session;
  readonly workdir: string;
  put(name: string, text: string): string;
  /** Writes belay.jsonc: an agent `tester` in `local`, and what the test adds. */
  configure(parts: ConfigParts): void;
  run(args: readonly string[], command: readonly string[], how?: Invocation): Promise<RunResult>;
  start(args: readonly string[], command: readonly string[], how?: Invocation): Started;
  /** The probe in the sandbox. */
  attempt(
    args: readonly string[],
    attempts: readonly Attempt[],
    how?: Invocation,
  ): Promise<{ readonly results: readonly Attempted[]; readonly run: RunResult }>;
  /** The same probe outside, as the uid that an agent of this place has. */
  control(attempts: readonly Attempt[], how?: Control): Promise<readonly Attempted[]>;
  /** Any program outside, as that uid. */
  outside(command: readonly string[], how?: Invocation): Promise<Finished>;
  entries(run?: string): Promise<readonly Entry[]>;
  status(): Promise<DaemonStatus>;
  /** The one open run, as soon as its command can run. */
  openRun(): Promise<string>;
}

export interface DaemonStatus {
  readonly ledger: { readonly entries: number; readonly state: string };
  readonly pid: number;
  readonly guard: string;
  readonly runs: readonly { readonly run: string; readonly state: string }[];
}

export interface ConfigParts {
  /** Default `tester`. */
  readonly agent?: string;
  readonly allow?: readonly string[];
  readonly limits?: { readonly processes?: number; readonly memory?: string };
  readonly caps?: {
    readonly calls?: number;
    readonly bytes?: number | string;
    readonly denials?: number;
    readonly denialsPerMinute?: number;
  };
  readonly upstreams?: Readonly<Record<string, Upstream | object>>;
  readonly credentials?: Readonly<Record<string, object>>;
}

export interface Control {
  readonly env?: Readonly<Record<string, string>>;
  /** Given, the control is root of namespaces of its own, and these addresses are there. */
  readonly addresses?: readonly string[] | undefined;
}

/** A run that the test drives: what it has said so far, and its end. */
export interface Started {
  readonly child: ChildProcess;
  stdout(): string;
  stderr(): string;
  readonly ended: Promise<{ readonly status: number | null; readonly atMs: number }>;
}

export async function openPlace(
  parts: ConfigParts = {},
  options: SessionOptions = {},
): Promise<Place> {
  const session = await openSession(options);
  const { workdir } = session;
  // Started as root, the daemon and the agent are others, and have to get here.
  if (process.getuid?.() === 0) chmodSync(dirname(workdir), 0o755);
  const put = (name: string, text: string): string => {
    const path = join(workdir, name);
    writeFileSync(path, text, { mode: 0o644 });
    return path;
  };
  for (const name of PROBES) {
    copyFileSync(join(import.meta.dirname, 'inside', name), join(workdir, name));
    chmodSync(join(workdir, name), 0o644);
  }
  let asked = 0;
  // The attempts are in a file: in an argument, a text that is looked for would be found there.
  const probe = (attempts: readonly Attempt[]): readonly string[] => {
    asked += 1;
    return [
      NODE,
      join(workdir, 'probe.mjs'),
      put(`attempts-${asked}.json`, JSON.stringify(attempts)),
    ];
  };

  const place: Place = {
    session,
    workdir,
    put,
    configure({
      agent = 'tester',
      allow = [],
      limits = {},
      caps = {},
      upstreams = {},
      credentials = {},
    }) {
      const declared = Object.entries(upstreams).map(([host, upstream], i) => {
        if (!('caPem' in upstream)) return [host, upstream] as const;
        put(`ca-${i}.pem`, upstream.caPem);
        return [host, { address: upstream.address, tls: { ca: `./ca-${i}.pem` } }] as const;
      });
      const config = {
        version: 1,
        agents: { [agent]: { environment: 'local', limits } },
        environments: { local: {}, other: {} },
        // A test of refusals is a storm of them.
        grants: [
          { agent, environment: 'local', allow, caps: { denialsPerMinute: 100_000, ...caps } },
        ],
        credentials,
        upstreams: Object.fromEntries(declared),
      };
      put('belay.jsonc', `${JSON.stringify(config, null, 2)}\n`);
    },

    async run(args, command, how = {}) {
      const finished = await session.belay(['run', '--json', ...args, '--', ...command], how);
      return { ...finished, summary: summaryIn(finished.stderr) };
    },

    start(args, command, how = {}) {
      return follow(session.start(['run', '--json', ...args, '--', ...command], how));
    },

    async attempt(args, attempts, how = {}) {
      const run = await place.run(args, probe(attempts), {
        timeoutMs: 60_000,
        ...how,
      });
      return { results: parseResults(run), run };
    },

    async control(attempts, { env = {}, addresses } = {}) {
      const command = probe(attempts);
      const links = (addresses ?? []).map((address) => `ip addr add ${address} dev lo`);
      const setUp = ['ip link set lo up', ...links, 'exec "$@"'].join('\n');
      const own = ['unshare', '--user', '--map-root-user', '--net', '--mount', 'sh', '-ec', setUp];
      const argv = addresses === undefined ? command : [...own, 'control', ...command];
      return parseResults(await place.outside(argv, { env, timeoutMs: 60_000 }));
    },

    outside(command, how = {}) {
      const { uid, gid } = agentIds();
      const ids = ['--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups', '--'];
      const become = process.getuid?.() === 0 ? ['setpriv', ...ids] : [];
      return session.exec([...become, ...command], how);
    },

    async entries(run) {
      const { stdout, stderr, status } = await session.belay(['log', 'export']);
      if (status !== 0) throw new Error(`log export ended with ${status}: ${stderr}`);
      const all = stdout.split('\n').filter((line) => line !== '');
      const entries = all.map((line) => JSON.parse(line) as Entry);
      return run === undefined ? entries : entries.filter((entry) => entry.run === run);
    },

    async status() {
      const { stdout, stderr, status } = await session.belay(['status', '--json']);
      if (status !== 0) throw new Error(`status ended with ${status}: ${stderr}`);
      return JSON.parse(stdout) as DaemonStatus;
    },

    openRun: () =>
      eventually('an open run', async () => {
        const { runs } = await place.status();
        return runs.find(({ state }) => state !== 'starting')?.run;
      }),

    [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
  };
  place.configure(parts);
  return place;
}

/** The uid that an agent gets here: the caller's own, or for root the agents' user. */
export function agentIds(): { readonly uid: number; readonly gid: number } {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  if (own.uid !== 0) return own;
  const line = readFileSync('/etc/passwd', 'utf8').match(/^belay-agent:[^:]*:(\d+):(\d+):/m);
  if (line === null)
    throw new Error('the user `belay-agent` does not exist: run scripts/host-setup');
  return { uid: Number(line[1]), gid: Number(line[2]) };
}

export function follow(child: ChildProcess): Started {
  let out = '';
  let err = '';
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const ended = new Promise<{ status: number | null; atMs: number }>((resolve) => {
    child.once('close', (status) => resolve({ status, atMs: Date.now() }));
  });
  return { child, stdout: () => out, stderr: () => err, ended };
}

export function summaryIn(stderr: string): Summary | undefined {
  const line = stderr.split('\n').findLast((text) => text.startsWith('{"v":1,"kind":"run"'));
  return line === undefined ? undefined : (JSON.parse(line) as Summary);
}

function parseResults({ stdout, stderr, status }: Finished): readonly Attempted[] {
  const line = stdout.split('\n').findLast((text) => text.startsWith('[{'));
  if (line === undefined) throw new Error(`the probe said nothing, status ${status}: ${stderr}`);
  return JSON.parse(line) as readonly Attempted[];
}

/** What came of each attempt, by its name. */
export function keyed(
  attempts: Readonly<Record<string, Attempt>>,
  results: readonly Attempted[],
): Record<string, Attempted> {
  const names = Object.keys(attempts);
  if (results.length !== names.length) {
    throw new Error(`${names.length} attempts had ${results.length} results`);
  }
  return Object.fromEntries(names.map((name, i) => [name, results[i] as Attempted]));
}

/** The denials of a run, as the ledger has them. */
export function denials(entries: readonly Entry[]): readonly DenialEntry[] {
  return entries.filter((entry): entry is Entry & DenialEntry => entry.type === 'denial');
}

/** Polls until there is an answer; throws when there is none within the time. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  withinMs = 15_000,
): Promise<T> {
  const deadlineMs = performance.now() + withinMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined) return found;
      last = undefined;
    } catch (error) {
      // Not yet: what is looked for may not exist so far.
      last = error;
    }
    if (performance.now() > deadlineMs) {
      throw new Error(`no ${what} within ${withinMs} ms`, { cause: last });
    }
    await sleep(20);
  }
}

/**
 * A free port of the loopback that stays free: below those that the kernel gives to outgoing connections,
 * any of which could have it a moment later.
 */
export async function quietPort(): Promise<number> {
  const range = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  const below = Math.min(Number.parseInt(range, 10), 32_768);
  for (let tries = 0; tries < 100; tries++) {
    const port = 2_000 + Math.floor(Math.random() * (below - 2_000));
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error('no port is free');
}

export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !/\) [ZX] /.test(stat);
  } catch {
    return false;
  }
}

export function lines(path: string): readonly string[] {
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
}
