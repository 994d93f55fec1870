// A guard, a daemon, a sandbox and its launcher, together: what most tests of the guard need.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { RunId } from '../../../src/core/ids.ts';
import { delegatedCgroup } from '../../../src/sandbox/cgroup.ts';
import {
  type GuardedRegistration,
  type GuardNotice,
  registerWithGuard,
} from '../../../src/sandbox/guard-client.ts';
import { type Program, startDaemon, startGuard } from './processes.ts';
import { ordinaryFolder, type SandboxStandIn, startSandbox, until } from './sandbox-stand-in.ts';

export const RUN = 'r-bcdfghjk' as RunId;

/** `ordinary`: the guard is an ordinary user's and stops with signals. `root`: the guard is root's
 * and has a cgroup. */
export type As = 'ordinary' | 'root';

export interface Heard {
  readonly atMs: number;
  readonly notice: GuardNotice;
}

export interface Stage extends AsyncDisposable {
  readonly socket: string;
  readonly guard: Program;
  readonly daemon: Program;
  readonly sandbox: SandboxStandIn;
  readonly seat: GuardedRegistration;
  readonly heard: readonly Heard[];
  hears(kind: GuardNotice['kind'], boundMs?: number): Promise<Heard>;
  forget(): void;
}

let stages = 0;

export async function stage(
  as: As,
  program: string,
  options: { readonly exposed?: boolean } = {},
): Promise<Stage> {
  await using built = new AsyncDisposableStack();
  const dir = ordinaryFolder();
  built.defer(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, 'guard.sock');
  const guard = built.use(await startGuard(socket, { root: as === 'root' }));
  const daemon = built.use(await startDaemon(socket));
  const cgroup = join(delegatedCgroup() ?? '', `belay-guard-test-${process.pid}-${stages++}`);
  const sandbox = built.use(
    await startSandbox({ run: RUN, program, ...(as === 'root' ? { cgroup } : {}), ...options }),
  );
  const heard: Heard[] = [];
  const seat = built.use(
    await registerWithGuard({
      socket,
      registration: sandbox.registration,
      onNotice: (notice) => heard.push({ atMs: performance.now(), notice }),
    }),
  );
  const all = built.move();
  return {
    socket,
    guard,
    daemon,
    sandbox,
    seat,
    heard,
    async hears(kind, boundMs = 5_000) {
      const find = () => heard.find(({ notice }) => notice.kind === kind);
      await until(`the launcher hears \`${kind}\``, () => find() !== undefined, boundMs);
      return find() as Heard;
    },
    forget: () => {
      heard.length = 0;
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
