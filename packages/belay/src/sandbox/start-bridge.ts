// Starts a run's bridge and watches it. It is in a session of its own, so that the terminal's keys
// do not reach it, and ends with its launcher: by its lifeline, and by a death signal if it hangs.

import { spawn } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BelayError } from '../core/errors.ts';
import { hostFailure, missingProgram } from './failures.ts';
import { LISTENER_PORT } from './link.ts';
import { HOLD_AND_LISTEN } from './perl.ts';
import type { SandboxSpec } from './spec.ts';
import { createStage } from './stage.ts';
import { TOOL_ENV } from './tools.ts';

/** All that the host's tools need; nothing of the caller's environment. */
const READY_MS = 10_000;
const MOST_SAID = 8192;

export interface Bridge {
  readonly pid: number;
  readonly agentNetPid: number;
  /** Resolves when the process is gone and reaped. */
  readonly gone: Promise<void>;
  stop(): Promise<void>;
}

/** Throws ERR_HOST or ERR_SANDBOX; then nothing of it is left. */
export async function startBridge(spec: SandboxSpec): Promise<Bridge> {
  const here = fileURLToPath(import.meta.url);
  const script = join(dirname(here), `bridge${here.slice(here.lastIndexOf('.'))}`);
  const packageDir = dirname(dirname(dirname(here)));
  const node = realpathSync(process.execPath);
  const { at, prefix } = createStage({
    sources: [{ path: node }, { path: packageDir }],
    cgroups: [],
    uid: spec.uid,
  });
  const [program = '', ...args] = [
    ...prefix,
    ...['unshare', '--user', '--map-root-user', '--net'],
    ...['perl', '-e', HOLD_AND_LISTEN, '--', String(LISTENER_PORT)],
    ...[at(node), at(packageDir, script)],
  ];
  const child = spawn(program, args, {
    cwd: spec.runDir,
    env: TOOL_ENV,
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => {}); // it ended: `gone` says so
  const gone = new Promise<void>((resolve) => {
    child.on('error', () => resolve());
    child.on('exit', () => resolve());
  });
  const stop = async (): Promise<void> => {
    child.stdin.end();
    child.kill('SIGKILL');
    await gone;
  };
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, MOST_SAID);
  });
  try {
    const agentNetPid = await new Promise<number>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new BelayError('ERR_SANDBOX', `the bridge was not ready in ${READY_MS} ms`)),
        READY_MS,
      );
      let line = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        line = (line + text).slice(0, MOST_SAID);
        if (!line.includes('\n')) return;
        clearTimeout(timer);
        resolve(
          (JSON.parse(line.slice(0, line.indexOf('\n'))) as { agentNetPid: number }).agentNetPid,
        );
      });
      child.on('error', (error) => {
        clearTimeout(timer);
        reject(missingProgram(program, error));
      });
      child.on('close', () => {
        clearTimeout(timer);
        reject(hostFailure('the bridge did not start', said));
      });
    });
    return { pid: child.pid as number, agentNetPid, gone, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
