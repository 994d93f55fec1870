// Runs the installed `belay` as a user would: a program with arguments, a terminal's worth of
// output and a status. Each session has a `$BELAY_HOME` of its own and leaves nothing behind: what
// it started is ended by `belay down`, and what that misses is found by its `$BELAY_HOME`.

import { type ChildProcess, spawn } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { installPacked } from './packed.ts';

export interface Invocation {
  /** Added to a small environment of the session's own. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: string;
  /** Past it the program gets SIGTERM, then SIGKILL, and `timedOut` is true. */
  readonly timeoutMs?: number;
}

export interface Finished {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
  readonly timedOut: boolean;
}

export interface Session extends AsyncDisposable {
  /** `$BELAY_HOME`. */
  readonly home: string;
  /** An empty folder that belongs to the session's uid. */
  readonly workdir: string;
  readonly launcher: string;
  readonly env: Readonly<Record<string, string>>;
  belay(args: readonly string[], options?: Invocation): Promise<Finished>;
  /** Any other program, in the same way. */
  exec(command: readonly string[], options?: Invocation): Promise<Finished>;
  /** A program that the test drives itself; it is ended with the session. */
  start(args: readonly string[], options?: Invocation): ChildProcess;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const GRACE_MS = 2_000;
const MOST_OUTPUT_BYTES = 8 << 20;
/** An ordinary uid that no account of the host needs to have. */
export const ORDINARY_UID = 12345;

let launching: Promise<string> | undefined;

/** The installed launcher: the one that `npm test` names, or else packed and installed now. */
export function installed(): Promise<string> {
  const named = process.env.BELAY_INSTALLED;
  launching ??= named === undefined ? installPacked() : Promise.resolve(named);
  return launching;
}

/** Why tests as another uid cannot run here; undefined when they can. */
export function otherUidProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can take another uid';
  if (!existsSync('/usr/bin/setpriv')) return 'no setpriv on this host';
  return undefined;
}

export interface SessionOptions {
  readonly uid?: number;
  /** What stands before each command: the way into namespaces of the test's own, and to a folder. */
  readonly within?: (cwd: string) => readonly string[];
}

export async function openSession(options: SessionOptions = {}): Promise<Session> {
  const launcher = await installed();
  const { uid, within = () => [] } = options;
  const base = mkdtempSync(join(tmpdir(), 'belay-'));
  const home = join(base, 'state');
  const workdir = join(base, 'work');
  const userHome = join(base, 'home');
  mkdirSync(workdir);
  mkdirSync(userHome);
  if (uid !== undefined) for (const path of [base, workdir, userHome]) chownSync(path, uid, uid);

  const env = {
    PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    HOME: userHome,
    LANG: 'C.UTF-8',
    TERM: 'xterm-256color',
    BELAY_HOME: home,
  };
  const children = new Set<ChildProcess>();

  function begin(command: readonly string[], invocation: Invocation): ChildProcess {
    const become =
      uid === undefined
        ? []
        : ['setpriv', '--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups', '--'];
    const cwd = invocation.cwd ?? workdir;
    const [file, ...args] = [...become, ...within(cwd), ...command];
    const child = spawn(file as string, args, {
      cwd,
      env: { ...env, ...invocation.env },
      stdio: 'pipe',
    });
    children.add(child);
    child.once('close', () => children.delete(child));
    return child;
  }

  const session: Session = {
    home,
    workdir,
    launcher,
    env,
    belay: (args, invocation = {}) =>
      session.exec([process.execPath, launcher, ...args], invocation),
    exec: (command, invocation = {}) => finish(begin(command, invocation), invocation),
    start: (args, invocation = {}) => begin([process.execPath, launcher, ...args], invocation),
    async [Symbol.asyncDispose]() {
      for (const child of children) await end(child);
      if (existsSync(join(home, 'run'))) await session.belay(['down'], { timeoutMs: 15_000 });
      await endStrays(home);
      rmSync(base, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return session;
}

/** One command in a session of its own. */
export async function belay(
  args: readonly string[],
  options: Invocation & { readonly uid?: number } = {},
): Promise<Finished> {
  await using session = await openSession(options);
  return await session.belay(args, options);
}

async function finish(child: ChildProcess, options: Invocation): Promise<Finished> {
  const startedMs = performance.now();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    void end(child);
  }, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const stdout = gather(child.stdout);
  const stderr = gather(child.stderr);
  // A program that ends without reading its input closes the pipe: that is its right.
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input ?? '');
  try {
    const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(
      (resolve, reject) => {
        child.once('error', reject);
        child.once('close', (...how) => resolve(how));
      },
    );
    const durationMs = performance.now() - startedMs;
    return { status, signal, stdout: stdout(), stderr: stderr(), durationMs, timedOut };
  } finally {
    clearTimeout(timer);
  }
}

function gather(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  stream?.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes <= MOST_OUTPUT_BYTES) chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString();
}

async function end(child: ChildProcess): Promise<void> {
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
  await Promise.race([closed, sleep(GRACE_MS)]);
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  // A grandchild may still hold the pipes; without them, `close` comes.
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
  await Promise.race([closed, sleep(GRACE_MS)]);
}

/** Kills what still runs on this home: only our own processes carry its path. */
async function endStrays(home: string): Promise<void> {
  for (const patienceMs of [500, 0, 0, 0]) {
    const pids = await waitForNone(home, patienceMs);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    await sleep(50);
  }
}

async function waitForNone(home: string, patienceMs: number): Promise<readonly number[]> {
  const deadlineMs = performance.now() + patienceMs;
  for (;;) {
    const pids = processesOn(home);
    if (pids.length === 0 || performance.now() >= deadlineMs) return pids;
    await sleep(50);
  }
}

/** The processes whose environment names this `$BELAY_HOME`. */
export function processesOn(home: string): readonly number[] {
  const wanted = `\0BELAY_HOME=${home}\0`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => {
      try {
        return `\0${readFileSync(`/proc/${name}/environ`, 'latin1')}`.includes(wanted);
      } catch {
        // Gone in the meantime, or another user's: neither is ours.
        return false;
      }
    })
    .map(Number);
}
