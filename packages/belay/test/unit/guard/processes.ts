// Starts the guard and the daemon's stand-in as processes of their own, from source, and keeps the
// lines that they print with the time at which each came.

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { asOrdinaryUser, until } from './sandbox-stand-in.ts';

export interface Said {
  readonly atMs: number;
  readonly line: { readonly [key: string]: unknown };
}

export interface Program extends AsyncDisposable {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly said: readonly Said[];
  send(method: string, argument?: unknown): void;
  /** The first line with this key, from the given index on. */
  hears(key: string, from?: number): Promise<Said>;
  ended(): boolean;
}

function startProgram(file: string, args: readonly string[], root: boolean): Program {
  const prefix = root ? ['env'] : asOrdinaryUser();
  const path = fileURLToPath(new URL(file, import.meta.url));
  const [command, ...rest] = [...prefix, process.execPath, path, ...args] as [string, ...string[]];
  const child = spawn(command, rest, { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] });
  const said: Said[] = [];
  let tail = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    const lines = (tail + text).split('\n');
    tail = lines.pop() as string;
    for (const line of lines) said.push({ atMs: performance.now(), line: JSON.parse(line) });
  });
  const closed = new Promise((resolve) => child.once('exit', resolve));
  const ended = () => child.exitCode !== null || child.signalCode !== null;
  return {
    process: child,
    pid: child.pid as number,
    said,
    send: (method, argument = null) =>
      child.stdin?.write(`${JSON.stringify([method, argument])}\n`),
    async hears(key, from = 0) {
      const find = () => said.slice(from).find(({ line }) => key in line);
      await until(`it says \`${key}\``, () => find() !== undefined);
      return find() as Said;
    },
    ended,
    async [Symbol.asyncDispose]() {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
      await closed;
    },
  };
}

export async function startGuard(socket: string, options: { root: boolean }): Promise<Program> {
  const owner = options.root ? ['12345:12345'] : [];
  const guard = startProgram('../../../src/sandbox/guard.ts', [socket, ...owner], options.root);
  await guard.hears('ready');
  return guard;
}

export async function startDaemon(socket: string): Promise<Program> {
  const daemon = startProgram('./daemon-stand-in.ts', [socket], false);
  await daemon.hears('connected');
  return daemon;
}

export function startBareDaemon(socket: string): Program {
  return startProgram('./daemon-stand-in.ts', [socket], false);
}
