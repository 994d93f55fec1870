// The guard: its own process, no network, no secret. It hears a beat from the daemon's event loop
// each 100 ms. None for 500 ms: it freezes every run, and thaws them when the beat returns. The
// daemon gone while runs are alive, by whatever way: it cuts each link and freezes for good, and
// those runs end only by a kill. Silence counts only while the guard itself was awake, and is
// judged after the socket has been read, so that a guard that woke late accuses nobody. Trusts
// whoever may open its socket, which is the user alone, and the daemon's user.
//
//   node guard.ts SOCKET [UID:GID]

import { lchownSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { asBelayError, BelayError, reasonOf } from '../core/errors.ts';
import {
  GUARD_VERSION,
  type Hello,
  parseClientLine,
  parseHello,
  type RunRegistration,
  readLines,
  SILENCE_MS,
  sendLine,
} from './guard-protocol.ts';
import { GuardedRuns } from './guard-runs.ts';
import { janitor } from './janitor.ts';

const TICK_MS = 25;
/** A longer gap between two ticks is the guard's own lateness, and counts as this much. */
const AWAKE_MAX_MS = 100;
const IDLE_EXIT_MS = 60_000;
const HELLO_MS = 2_000;
const MOST_CONNECTIONS = 1_024;

class Guard implements AsyncDisposable {
  readonly #server: Server;
  readonly #onIdle: () => void;
  readonly #runs: GuardedRuns;
  readonly #ticker = setInterval(() => this.#tick(), TICK_MS);
  #daemon: Socket | null = null;
  #saidBye = false;
  #silent = false;
  #silenceMs = 0;
  #idleMs = 0;
  #tickedMs = performance.now();
  #leaving = false;

  constructor(server: Server, onIdle: () => void, onAbandoned: () => void) {
    this.#runs = new GuardedRuns(onAbandoned);
    this.#server = server.on('connection', (socket) => this.#accept(socket));
    this.#server.maxConnections = MOST_CONNECTIONS;
    this.#onIdle = onIdle;
  }

  /** Told to end: no run stays free, and the guard stays until the last of them has ended. */
  leave(): void {
    this.#leaving = true;
    this.#runs.finish('the guard was told to end');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#ticker);
    this.#server.close();
    await this.#runs[Symbol.asyncDispose]();
  }

  #tick(): void {
    const nowMs = performance.now();
    const awakeMs = Math.min(nowMs - this.#tickedMs, AWAKE_MAX_MS);
    this.#tickedMs = nowMs;
    this.#silenceMs += awakeMs;
    const needed = this.#runs.size > 0 || (this.#daemon !== null && !this.#leaving);
    this.#idleMs = needed ? 0 : this.#idleMs + awakeMs;
    if (this.#idleMs > (this.#leaving ? 0 : IDLE_EXIT_MS)) this.#onIdle();
    // Order: timers, then the sockets that are readable, then this: a beat that waited is heard.
    setImmediate(() => {
      if (this.#daemon === null || this.#silent || this.#silenceMs < SILENCE_MS) return;
      this.#setSilent(this.#daemon, true);
    });
  }

  #setSilent(daemon: Socket, silent: boolean): void {
    this.#silent = silent;
    this.#runs.setSilent(silent);
    sendLine(daemon, { frozen: silent });
  }

  #accept(socket: Socket): void {
    // `close` follows, and says the same.
    socket.on('error', () => {});
    const timer = setTimeout(() => socket.destroy(), HELLO_MS);
    let hello: Hello | undefined;
    readLines(socket, (line) => {
      if (hello !== undefined) return this.#hear(socket, hello, line);
      hello = parseHello(line);
      clearTimeout(timer);
      if (hello.kind === 'launcher') void this.#launcher(socket, hello.registration);
      else if (hello.kind === 'operator' || this.#welcome(socket)) {
        sendLine(socket, { v: GUARD_VERSION, ready: true });
      }
    });
  }

  #welcome(daemon: Socket): boolean {
    if (this.#daemon !== null || this.#leaving) {
      const error = this.#leaving ? 'the guard is leaving' : 'another daemon is connected';
      daemon.end(`${JSON.stringify({ error })}\n`);
      return false;
    }
    this.#daemon = daemon;
    this.#saidBye = false;
    this.#silenceMs = 0;
    daemon.on('close', () => {
      this.#daemon = null;
      this.#silent = false;
      // A goodbye only changes the words: it must not be a way to free the runs. Order: final
      // before the silence is forgotten, so that no run thaws in between.
      this.#runs.finish(this.#saidBye ? 'the daemon left' : 'the daemon died');
      this.#runs.setSilent(false);
    });
    return true;
  }

  async #launcher(socket: Socket, registration: RunRegistration): Promise<void> {
    try {
      if (this.#daemon === null) throw new BelayError('ERR_GUARD', 'no daemon is connected');
      const run = await this.#runs.register(registration);
      if (run.tell !== null) throw new BelayError('ERR_GUARD', 'the run has a launcher already');
      run.tell = (notice) => sendLine(socket, notice);
      if (socket.destroyed) this.#runs.release(run);
      socket.on('close', () => this.#runs.release(run));
      run.tell({ registered: registration.run, method: run.link.method });
      if (run.frozen === true) run.tell({ frozen: true, final: run.final });
    } catch (error) {
      if (!socket.destroyed) socket.end(`${JSON.stringify({ error: reasonOf(error) })}\n`);
    }
  }

  #hear(socket: Socket, hello: Hello, text: string): void {
    const line = parseClientLine(text);
    if (line.kind === 'request') {
      const { id, request } = line;
      const asked =
        hello.kind === 'operator' && (request.kind === 'kill' || request.kind === 'list');
      if (socket !== this.#daemon && !asked) {
        throw new BelayError('ERR_PROTOCOL', `\`${request.kind}\` from another than the daemon`);
      }
      this.#runs
        .carry(request)
        .then((answer) => sendLine(socket, { id, ...answer }))
        .catch((error) => sendLine(socket, { id, error: reasonOf(error) }));
    } else if (socket !== this.#daemon) {
      throw new BelayError('ERR_PROTOCOL', 'a beat from another than the daemon');
    } else if (line.kind === 'bye') {
      this.#saidBye = true;
    } else {
      this.#silenceMs = 0;
      if (this.#silent) this.#setSilent(socket, false);
    }
  }
}

/** Throws when another guard answers on this socket: it may hold runs. */
async function main(path: string, owner: string | undefined): Promise<void> {
  const answered = Promise.withResolvers<boolean>();
  const probe = connect(path, () => answered.resolve(true));
  probe.on('error', () => answered.resolve(false));
  if (await answered.promise) throw new BelayError('ERR_LOCKED', `\`${path}\` has a guard already`);
  probe.destroy();
  rmSync(path, { force: true });
  // Order: the mode is 0600 from the first moment, then the socket changes hands.
  process.umask(0o177);
  const server = createServer();
  // What a dead launcher left in its workspace goes as soon as its agent is gone.
  const sweep = () => janitor(dirname(path), Date.now);
  const guard = new Guard(server, () => process.exit(0), sweep);
  server.listen(path, () => {
    const [uid, gid] = (owner ?? '').split(':').map(Number);
    if (owner !== undefined) lchownSync(path, uid as number, gid as number);
    process.stdout.write('{"ready":true}\n');
  });
  // A terminal's signals are for the agent; who started the guard sends SIGTERM.
  process.on('SIGINT', () => {}).on('SIGHUP', () => {});
  process.on('SIGTERM', () => guard.leave());
  process.stdout.on('error', () => {});
}

if (import.meta.main) {
  const [path, owner, ...rest] = process.argv.slice(2);
  const usable = path !== undefined && rest.length === 0 && /^\d+:\d+$/.test(owner ?? '0:0');
  main(usable ? path : '', owner).catch((error) => {
    process.stderr.write(
      `belay guard: ${asBelayError('ERR_GUARD', 'not started', error).message}\n`,
    );
    process.exitCode = 69;
  });
}
