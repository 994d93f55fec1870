// Starts the demo's programs and reads what they say. Every wait is bounded; a program that does
// not end in time is killed, by its pid.

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Owner } from '../control/home.ts';
import { BelayError } from '../core/errors.ts';
import type { AgentLine } from './inside/report-line.ts';

export interface Program extends AsyncDisposable {
  readonly child: ChildProcess;
  /** The agent's lines so far. */
  readonly lines: readonly AgentLine[];
  /** The status, or 128 + 9 for a program that was killed. */
  readonly ended: Promise<number>;
  /** What it printed, the agent's lines and all else. */
  stdout(): string;
  stderr(): string;
}

export interface StartOptions {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly owner?: Owner | undefined;
  readonly onLine?: (line: AgentLine) => void;
  readonly timeoutMs: number;
  /** Aborted: the program gets SIGTERM. */
  readonly signal?: AbortSignal | undefined;
}

const MOST_LINE_CHARACTERS = 100_000;
const MOST_OUTPUT_CHARACTERS = 1_000_000;

export function start(command: readonly string[], options: StartOptions): Program {
  const [program = '', ...argv] = command;
  const child = spawn(program, argv, {
    cwd: options.cwd,
    env: { ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...options.owner,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const lines: AgentLine[] = [];
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout = (stdout + chunk.toString()).slice(-MOST_OUTPUT_CHARACTERS);
  });
  createInterface({ input: child.stdout }).on('line', (printed) => {
    const line = agentLine(printed);
    if (line === undefined) return;
    lines.push(line);
    options.onLine?.(line);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-MOST_OUTPUT_CHARACTERS);
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(new BelayError('ERR_HOST', `cannot start \`${program}\`: ${error.message}`));
    });
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve(code ?? 137);
    });
  });
  ended.catch(() => {});
  return {
    child,
    lines,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      if (child.pid !== undefined) await closed;
    },
  };
}

const text = z.string().max(10_000);
const agentLineShape = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('act'),
    act: text,
    startedAtMs: z.number(),
    tookMs: z.number(),
    result: z.enum(['done', 'refused', 'failed']),
    status: z.int().exactOptional(),
    errno: text.exactOptional(),
    detail: text,
  }),
  z.strictObject({ kind: z.literal('progress'), act: text, bytes: z.number() }),
  z.strictObject({ kind: z.literal('says'), text }),
]);

/** A line of the agent's, or undefined for anything that is not one. */
function agentLine(line: string): AgentLine | undefined {
  if (line.length > MOST_LINE_CHARACTERS) return undefined;
  try {
    return agentLineShape.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined; // not JSON: the agent may print what it likes
  }
}

/** The command line of another program of this build: `cli/main`, `demo/open-world`. */
export function ourProgram(path: string): string {
  const here = import.meta.url;
  return fileURLToPath(new URL(`../${path}${here.slice(here.lastIndexOf('.'))}`, here));
}
