// What the tests of real sandboxes share: a folder with everything a run needs, a gateway that notes
// header lines and echoes, and a launcher in a process of its own, as the identity under test.

import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import type { RunId } from '../../../src/core/ids.ts';
import { processStart } from '../../../src/sandbox/process-start.ts';
import type { SandboxSpec } from '../../../src/sandbox/start.ts';

const ORDINARY = 12345;
const isRoot = process.getuid?.() === 0;

export interface Identity {
  readonly name: string;
  /** Why this host cannot run as it. */
  readonly skip: string | false;
  /** In front of the launcher. */
  readonly prefix: readonly string[];
  /** Who owns the workspace. */
  readonly owner: number;
  readonly spec: Partial<SandboxSpec>;
}

const drop = [
  'setpriv',
  '--reuid',
  `${ORDINARY}`,
  '--regid',
  `${ORDINARY}`,
  '--clear-groups',
  '--',
];
export const IDENTITIES: readonly Identity[] = [
  {
    name: 'ordinary user',
    skip: false,
    prefix: isRoot ? drop : [],
    owner: isRoot ? ORDINARY : (process.getuid?.() ?? 0),
    spec: {},
  },
  {
    name: 'root',
    skip: isRoot ? false : 'not started as root',
    prefix: [],
    owner: 0,
    spec: { uid: { uid: ORDINARY, gid: ORDINARY }, idmap: true },
  },
];

export interface Told {
  readonly holderPid?: number;
  readonly agentNetPid?: number;
  readonly childPid?: number;
  readonly setupMs?: number;
  readonly status?: number;
  readonly ran?: boolean;
  readonly reason?: string;
  readonly code?: string;
  readonly message?: string;
  readonly hint?: string;
}

export interface Launched {
  readonly process: ChildProcess;
  /** The next line of the launcher; throws after 20 s. */
  next(): Promise<Told>;
  readonly done: Promise<{
    readonly status: number | null;
    readonly out: string;
    readonly err: string;
  }>;
}

export interface Ground extends AsyncDisposable {
  readonly base: string;
  readonly workdir: string;
  readonly runsDir: string;
  readonly runDir: string;
  /** Gives the workspace and the runs to whom the identity says. */
  chown(): void;
  /** Header lines in the order of their arrival. */
  readonly headers: Record<string, unknown>[];
  launch(command: readonly string[], options?: LaunchOptions): Launched;
  /** Launches, waits for the end, and returns what was said. */
  run(command: readonly string[], options?: LaunchOptions): Promise<Ran>;
}

export interface LaunchOptions {
  readonly spec?: Partial<SandboxSpec>;
  readonly hold?: boolean;
  readonly prefix?: readonly string[];
}

export interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
  readonly end: Told;
}

/** Node inside is the Node of these tests. */
export const NODE = realpathSync(process.execPath);

export async function createGround(identity: Identity): Promise<Ground> {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'belay-sandbox-')));
  const dir = (path: string): string => {
    mkdirSync(join(base, path), { recursive: true });
    return join(base, path);
  };
  const runsDir = dir('runs');
  const runDir = dir('runs/r-bcdfghjk');
  const workdir = dir('work');
  const home = dir('home');
  const trustDir = dir('trust');
  dir('trust/certs');
  for (const name of ['ca.pem', 'bundle.pem', 'certs/ca-certificates.crt']) {
    writeFileSync(join(trustDir, name), 'test\n');
  }
  writeFileSync(join(base, 'secret'), 'not for agents\n');
  const headers: Record<string, unknown>[] = [];
  const server = await listen(join(runDir, 'gw.sock'), headers);
  // Root's own folder stays closed: its sandboxes pass it all the same.
  const chown = (): void => {
    if (identity.owner === 0) return;
    const below = readdirSync(base, { recursive: true, encoding: 'utf8' });
    for (const name of ['', ...below]) lchownSync(join(base, name), identity.owner, identity.owner);
  };
  chown();
  if (identity.owner === 0) chmodSync(runDir, 0o711);

  const launched: ChildProcess[] = [];
  const launch = (command: readonly string[], options: LaunchOptions = {}): Launched => {
    const spec: SandboxSpec = {
      run: 'r-bcdfghjk' as RunId,
      runDir,
      trustDir,
      workdir,
      home,
      command,
      env: {},
      readOnly: [dirname(NODE)],
      tty: false,
      ...identity.spec,
      ...options.spec,
    };
    const launcher = join(import.meta.dirname, 'launcher.ts');
    const [program = '', ...args] = [
      ...identity.prefix,
      ...(options.prefix ?? []),
      ...[process.execPath, launcher, JSON.stringify(spec), ...(options.hold ? ['--hold'] : [])],
    ];
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH ?? '', HOME: base, CALLER_SECRET: 'xyzzy' },
    });
    launched.push(child);
    const next = lines(child.stdio[3] as Readable);
    let out = '';
    let err = '';
    child.stdout?.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr?.on('data', (chunk) => {
      err += chunk;
    });
    const done = new Promise<{ status: number | null; out: string; err: string }>((resolve) => {
      child.on('close', (status) => resolve({ status, out, err }));
    });
    return { process: child, next, done };
  };

  return {
    base,
    workdir,
    runsDir,
    runDir,
    chown,
    headers,
    launch,
    async run(command, options) {
      const { next, done } = launch(command, options);
      const first = await next();
      const end = first.childPid === undefined ? first : await next();
      return { ...(await done), end };
    },
    async [Symbol.asyncDispose]() {
      // Also after a failed test nothing stays: with its launcher a sandbox ends.
      for (const child of launched) if (child.exitCode === null) child.kill('SIGKILL');
      server.close();
      rmSync(base, { recursive: true, force: true });
    },
  };
}

/** Notes each connection's header and echoes the rest, each half closed by itself. */
async function listen(path: string, headers: Record<string, unknown>[]): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket: Socket) => {
    let head = Buffer.alloc(0);
    const begin = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const at = head.indexOf(10);
      if (at < 0) return;
      socket.off('data', begin);
      headers.push(JSON.parse(head.toString('utf8', 0, at)) as Record<string, unknown>);
      socket.write(head.subarray(at + 1));
      socket.pipe(socket);
    };
    socket.on('data', begin);
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  chmodSync(path, 0o666);
  return server;
}

function lines(stream: Readable): () => Promise<Told> {
  const found: Told[] = [];
  const waiting: ((line: Told) => void)[] = [];
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    const parts = (text + chunk).split('\n');
    text = parts.pop() ?? '';
    for (const part of parts) {
      const line = JSON.parse(part) as Told;
      const waiter = waiting.shift();
      if (waiter === undefined) found.push(line);
      else waiter(line);
    }
  });
  return () =>
    new Promise((resolve, reject) => {
      const line = found.shift();
      if (line !== undefined) return resolve(line);
      const timer = setTimeout(
        () => reject(new Error('the launcher said nothing for 20 s')),
        20_000,
      );
      waiting.push((told) => {
        clearTimeout(timer);
        resolve(told);
      });
    });
}

export interface Living {
  readonly pid: number;
  readonly start: string;
  readonly name: string;
}

/** A process and all below it. */
export function tree(root: number): readonly Living[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // Ended while we looked.
    }
  }
  const found = [root];
  for (let i = 0; i < found.length; i++) {
    for (const [pid, parent] of parents) if (parent === found[i]) found.push(pid);
  }
  return found.flatMap((pid) => {
    const start = processStart(pid);
    if (start === undefined) return [];
    return [{ pid, start, name: readFileSync(`/proc/${pid}/comm`, 'utf8').trim() }];
  });
}

export const stillThere = (processes: readonly Living[]): readonly Living[] =>
  processes.filter(({ pid, start }) => processStart(pid) === start);

/** Polls until `holds`, for at most `timeoutMs`. */
export async function until(holds: () => boolean, timeoutMs = 15_000): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (!holds()) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return true;
}
