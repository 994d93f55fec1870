// The three who speak to the guard, each over a connection of its own: the daemon (which beats from
// its event loop, so that a loop that hangs is a daemon that is silent), the launcher of one run,
// and an operator when no daemon is alive. Requests have a bound; a guard that does not answer, or
// whose connection ends, is ERR_GUARD. None of these reconnects: what a lost guard means is for the
// caller to decide, and the daemon's decision is to deny.

import { connect, type Socket } from 'node:net';
import { asBelayError, BelayError } from '../core/errors.ts';
import type { RunId } from '../core/ids.ts';
import {
  BEAT_MS,
  type FreezeMethod,
  GUARD_VERSION,
  type GuardedState,
  type GuardRequest,
  LINE_MAX_BYTES,
  object,
  type RunRegistration,
  readLines,
  requestFields,
  sendLine,
} from './guard-protocol.ts';

const ANSWER_MS = 1_000;
/** A registration starts a process inside the sandbox. */
const REGISTER_MS = 5_000;
/** Run names that fit one line. */
const ACK_RUNS = 200;

export interface GuardLink extends AsyncDisposable {
  /** Tells a guard about a run that it does not know, for one that replaces a lost guard. A run
   * that the lost guard had frozen stays so until `thaw`. */
  register(registration: RunRegistration): Promise<FreezeMethod>;
  /** Which of these runs the guard holds. */
  ack(runs: readonly RunId[]): Promise<readonly RunId[]>;
  cut(run: RunId): Promise<void>;
  freeze(run: RunId): Promise<void>;
  /** Rejects when the run stays frozen for another reason. */
  thaw(run: RunId): Promise<void>;
  kill(run: RunId): Promise<void>;
}

export interface DaemonOptions {
  readonly socket: string;
  readonly pid: number;
  /** The guard froze every run because this process was silent, or thawed them. */
  readonly onFrozen: (frozen: boolean) => void;
  /** Called once. From here on every call is to be denied. */
  readonly onLost: (error: BelayError) => void;
}

/** What a launcher hears about its run. */
export type GuardNotice =
  | { readonly kind: 'frozen' }
  | { readonly kind: 'thawed' }
  | { readonly kind: 'cut' }
  /** Cut and frozen for good. */
  | { readonly kind: 'final'; readonly reason: string }
  /** The guard could not hold the run and killed it. */
  | { readonly kind: 'killed'; readonly reason: string }
  | { readonly kind: 'ended' }
  | { readonly kind: 'lost' };

export interface GuardedRegistration extends Disposable {
  readonly run: RunId;
  readonly method: FreezeMethod;
}

export interface GuardOperator extends Disposable {
  list(): Promise<readonly GuardedState[]>;
  kill(run: RunId): Promise<void>;
}

/** Connects as the daemon and beats until disposed. Rejects when the guard is gone or has one. */
export async function connectGuardAsDaemon(options: DaemonOptions): Promise<GuardLink> {
  const { socket: path, pid, onFrozen, onLost } = options;
  let closing = false;
  const guard = await open(path, { hello: 'daemon', pid }, (said) => {
    if (typeof said.frozen === 'boolean') onFrozen(said.frozen);
  });
  let beats = 0;
  // A guard that does not read for a while needs only to hear that there was a beat.
  const beat = (): void => {
    if (guard.socket.writableLength < LINE_MAX_BYTES) sendLine(guard.socket, { beat: beats++ });
  };
  beat();
  const timer = setInterval(beat, BEAT_MS);
  void guard.closed.then((error) => {
    clearInterval(timer);
    if (!closing) onLost(error);
  });
  const run = async (kind: 'cut' | 'freeze' | 'thaw' | 'kill', name: RunId): Promise<void> => {
    await guard.ask({ kind, run: name });
  };
  return {
    async register(registration) {
      const answer = await guard.ask({ kind: 'register', registration }, REGISTER_MS);
      return answer.method as FreezeMethod;
    },
    async ack(runs) {
      const known: RunId[] = [];
      for (let at = 0; at < runs.length || at === 0; at += ACK_RUNS) {
        const answer = await guard.ask({ kind: 'ack', runs: runs.slice(at, at + ACK_RUNS) });
        known.push(...(answer.known as RunId[]));
      }
      return known;
    },
    cut: (name) => run('cut', name),
    freeze: (name) => run('freeze', name),
    thaw: (name) => run('thaw', name),
    kill: (name) => run('kill', name),
    async [Symbol.asyncDispose]() {
      closing = true;
      clearInterval(timer);
      sendLine(guard.socket, { bye: true });
      guard.socket.end();
      await guard.closed;
    },
  };
}

/** Registers a run, before its agent starts. The registration lives as long as the connection: when
 * this process ends, or disposes of it, the guard kills what is left of the run. */
export async function registerWithGuard(options: {
  readonly socket: string;
  readonly registration: RunRegistration;
  readonly onNotice: (notice: GuardNotice) => void;
}): Promise<GuardedRegistration> {
  const { socket: path, registration, onNotice } = options;
  let closing = false;
  const hello = { hello: 'launcher', ...registration };
  const guard = await open(
    path,
    hello,
    (said) => {
      const notice = noticeOf(said);
      if (notice !== null) onNotice(notice);
    },
    REGISTER_MS,
  );
  void guard.closed.then(() => {
    if (!closing) onNotice({ kind: 'lost' });
  });
  return {
    run: registration.run,
    method: guard.welcome.method as FreezeMethod,
    [Symbol.dispose]() {
      closing = true;
      guard.socket.destroy();
    },
  };
}

/** For `belay kill` and `belay ps` when no daemon is alive. */
export async function operateGuard(socket: string): Promise<GuardOperator> {
  const guard = await open(socket, { hello: 'operator' }, () => {});
  return {
    list: async () => (await guard.ask({ kind: 'list' })).runs as GuardedState[],
    async kill(run) {
      await guard.ask({ kind: 'kill', run });
    },
    [Symbol.dispose]: () => void guard.socket.destroy(),
  };
}

type Said = { readonly [key: string]: unknown };

function noticeOf(said: Said): GuardNotice | null {
  if (typeof said.final === 'string') return { kind: 'final', reason: said.final };
  if (typeof said.frozen === 'boolean') return { kind: said.frozen ? 'frozen' : 'thawed' };
  if (said.cut === true) return { kind: 'cut' };
  if (typeof said.killed === 'string') return { kind: 'killed', reason: said.killed };
  if (said.ended === true) return { kind: 'ended' };
  return null;
}

interface Connection {
  readonly socket: Socket;
  /** What the guard answered to the hello. */
  readonly welcome: Said;
  readonly closed: Promise<BelayError>;
  ask(request: GuardRequest, boundMs?: number): Promise<Said>;
}

async function open(
  path: string,
  hello: Said,
  onNotice: (said: Said) => void,
  boundMs = ANSWER_MS,
): Promise<Connection> {
  const socket = connect(path);
  const waiting = new Map<number, (answer: Said | BelayError) => void>();
  let cause: Error | undefined;
  const { promise: closed, resolve: close } = Promise.withResolvers<BelayError>();
  socket.on('error', (error) => {
    cause = error;
  });
  socket.on('close', () => {
    const error = lost(cause);
    for (const settle of waiting.values()) settle(error);
    close(error);
  });

  let asked = 0;
  const answer = (id: number, limitMs: number): Promise<Said> =>
    new Promise((resolve, reject) => {
      const settle = (said: Said | BelayError): void => {
        clearTimeout(timer);
        waiting.delete(id);
        if (said instanceof BelayError) reject(said);
        else if (typeof said.error === 'string') reject(new BelayError('ERR_GUARD', said.error));
        else resolve(said);
      };
      const late = () => settle(new BelayError('ERR_GUARD', `no answer within ${limitMs} ms`));
      const timer = setTimeout(late, limitMs);
      waiting.set(id, settle);
      if (socket.destroyed) settle(lost(cause));
    });
  const ask = (request: GuardRequest, limitMs = ANSWER_MS): Promise<Said> => {
    const id = ++asked;
    const answered = answer(id, limitMs);
    sendLine(socket, { id, ...requestFields(request) });
    return answered;
  };

  // The answer to the hello carries no number and comes first; it waits as number 0.
  readLines(socket, (line) => {
    const said = object(line);
    const settle = waiting.get(typeof said.id === 'number' ? said.id : 0);
    if (settle !== undefined) settle(said);
    else if (said.id === undefined) onNotice(said);
  });
  const welcomed = answer(0, boundMs);
  sendLine(socket, { v: GUARD_VERSION, ...hello });
  try {
    return { socket, welcome: await welcomed, closed, ask };
  } catch (error) {
    socket.destroy();
    throw asBelayError('ERR_GUARD', 'the guard did not accept', error);
  }
}

function lost(cause: Error | undefined): BelayError {
  const why = cause === undefined ? 'the connection ended' : cause.message;
  return new BelayError('ERR_GUARD', `the guard cannot be reached: ${why}`, {
    cause,
    hint: 'a guard runs beside the daemon; `belay status` says whether both are there',
  });
}
