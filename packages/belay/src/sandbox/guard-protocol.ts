// What is said on the guard's socket: one JSON object a line, at most 4 KiB, parsed once and
// strictly: an unknown kind, an unknown key or a value of the wrong form is ERR_PROTOCOL. The first
// line is a hello that carries the version; every line after it is read in that version. The guard
// and its clients share this file, so that there is one grammar.

import type { Socket } from 'node:net';
import { BelayError, unreachable } from '../core/errors.ts';
import { isRunId, type RunId } from '../core/ids.ts';
import { printable } from '../core/target.ts';

export const GUARD_VERSION = 1;
export const LINE_MAX_BYTES = 4096;
export const BEAT_MS = 100;
export const SILENCE_MS = 500;

/** Host process ids of one run, as the launcher knows them. */
export interface RunRegistration {
  readonly run: RunId;
  /** A process in the bridge's user and network namespaces, where the veth is called `v0`. */
  readonly holder: number;
  /** A process in the agent's network namespace. */
  readonly agentNet: number;
  /**
   * The first process of the sandbox's outermost pid namespace. A signal to -1 from inside this
   * namespace stops the agent; give the agent a pid namespace below it, so that it cannot see who
   * sends that signal.
   */
  readonly child: number;
  /** A cgroup (v2) that holds the sandbox and nothing else. */
  readonly cgroup: string | null;
}

/** How a run is frozen: by its cgroup, or by SIGSTOP inside its pid namespace. */
export type FreezeMethod = 'cgroup' | 'signal';

export interface GuardedState {
  readonly run: RunId;
  readonly method: FreezeMethod;
  readonly frozen: boolean;
  /** Set when the run was cut and frozen for good: why. */
  readonly final: string | null;
}

export type Hello =
  | { readonly kind: 'daemon'; readonly pid: number }
  | { readonly kind: 'launcher'; readonly registration: RunRegistration }
  | { readonly kind: 'operator' };

export type GuardRequest =
  | { readonly kind: 'ack'; readonly runs: readonly RunId[] }
  | { readonly kind: 'register'; readonly registration: RunRegistration }
  | { readonly kind: 'cut' | 'freeze' | 'thaw' | 'kill'; readonly run: RunId }
  | { readonly kind: 'list' };

export type ClientLine =
  | { readonly kind: 'beat' }
  | { readonly kind: 'bye' }
  | { readonly kind: 'request'; readonly id: number; readonly request: GuardRequest };

type Fields = { readonly [key: string]: unknown };

export function parseHello(line: string): Hello {
  const said = object(line);
  if (said.v !== GUARD_VERSION) refuse('a version that this guard does not speak');
  switch (said.hello) {
    case 'daemon':
      exactly(said, ['v', 'hello', 'pid']);
      return { kind: 'daemon', pid: pid(said.pid) };
    case 'launcher': {
      const { v: _, hello: __, ...rest } = said;
      return { kind: 'launcher', registration: registration(rest) };
    }
    case 'operator':
      exactly(said, ['v', 'hello']);
      return { kind: 'operator' };
    default:
      return refuse('a hello of no known kind');
  }
}

export function parseClientLine(line: string): ClientLine {
  const said = object(line);
  if ('beat' in said) {
    exactly(said, ['beat']);
    if (!Number.isSafeInteger(said.beat)) refuse('a beat without a number');
    return { kind: 'beat' };
  }
  if ('bye' in said) {
    exactly(said, ['bye']);
    if (said.bye !== true) refuse('a bye that is not true');
    return { kind: 'bye' };
  }
  const { id, ...rest } = said;
  if (!Number.isSafeInteger(id)) refuse('a request without a number');
  return { kind: 'request', id: id as number, request: parseRequest(rest) };
}

function parseRequest(said: Fields): GuardRequest {
  const [kind, ...more] = Object.keys(said);
  if (kind === undefined || more.length > 0) return refuse('a request that is not one thing');
  const value = said[kind];
  switch (kind) {
    case 'ack':
      if (!Array.isArray(value)) return refuse('an acknowledgement of no list');
      return { kind, runs: value.map(runId) };
    case 'register':
      if (typeof value !== 'object' || value === null) return refuse('an empty registration');
      return { kind, registration: registration(value as Fields) };
    case 'cut':
    case 'freeze':
    case 'thaw':
    case 'kill':
      return { kind, run: runId(value) };
    case 'list':
      if (value !== true) return refuse('a list that is not true');
      return { kind };
    default:
      return refuse('a request of no known kind');
  }
}

/** The wire form of a request, without its number. */
export function requestFields(request: GuardRequest): Fields {
  switch (request.kind) {
    case 'ack':
      return { ack: request.runs };
    case 'register':
      return { register: request.registration };
    case 'list':
      return { list: true };
    case 'cut':
    case 'freeze':
    case 'thaw':
    case 'kill':
      return { [request.kind]: request.run };
    default:
      return unreachable(request);
  }
}

export function object(line: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new BelayError('ERR_PROTOCOL', 'the guard refused a line that is not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuse('a line that is no object');
  }
  return value as Fields;
}

function registration(said: Fields): RunRegistration {
  exactly(said, ['run', 'holder', 'agentNet', 'child', 'cgroup']);
  const { cgroup } = said;
  if (cgroup !== null && typeof cgroup !== 'string') return refuse('a cgroup that is no path');
  return {
    run: runId(said.run),
    holder: pid(said.holder),
    agentNet: pid(said.agentNet),
    child: pid(said.child),
    cgroup,
  };
}

function exactly(said: Fields, keys: readonly string[]): void {
  const found = Object.keys(said);
  for (const key of keys) if (!(key in said)) refuse(`a line without \`${key}\``);
  for (const key of found) if (!keys.includes(key)) refuse(`the unknown key \`${printable(key)}\``);
}

function runId(value: unknown): RunId {
  return typeof value === 'string' && isRunId(value) ? value : refuse('a run of no valid name');
}

/** 1 is the host's init, and 0 and below address groups: none of them is ever a run's process. */
function pid(value: unknown): number {
  return Number.isSafeInteger(value) && (value as number) > 1
    ? (value as number)
    : refuse('a process id out of range');
}

function refuse(what: string): never {
  throw new BelayError('ERR_PROTOCOL', `the guard refused ${what}`);
}

/** Calls `onLine` for each line. A line over the bound, or one that `onLine` throws for, destroys
 * the socket with that error. */
export function readLines(socket: Socket, onLine: (line: string) => void): void {
  let rest = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() as string;
    try {
      for (const line of lines) {
        if (socket.destroyed) return;
        if (Buffer.byteLength(line) > LINE_MAX_BYTES) refuse('a line over 4 KiB');
        onLine(line);
      }
      if (Buffer.byteLength(rest) > LINE_MAX_BYTES) refuse('a line over 4 KiB');
    } catch (error) {
      socket.destroy(error as Error);
    }
  });
}

/** Sends one line. A peer that does not read is dropped: nothing here may grow without a bound. */
export function sendLine(socket: Socket, fields: Fields): void {
  if (socket.destroyed || socket.writableEnded) return;
  if (socket.writableLength > 16 * LINE_MAX_BYTES) socket.destroy();
  else socket.write(`${JSON.stringify(fields)}\n`);
}
