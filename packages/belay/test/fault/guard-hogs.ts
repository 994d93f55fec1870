// Two processes that burn both CPUs, for as long as asked: the guard must freeze nothing, and must
// still freeze within 700 ms when the daemon is stopped at the end.
//
//   node test/fault/guard-hogs.ts [--minutes 10] [--as ordinary|root]

import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { FORK_STORM, WRITER } from '../unit/guard/agents.ts';
import { type As, stage } from '../unit/guard/stage.ts';

export interface HogsResult {
  readonly minutes: number;
  readonly as: As;
  readonly hogs: number;
  readonly falseFreezes: number;
  /** From the daemon's SIGSTOP to the agent's last byte, hogs running. */
  readonly frozenAfterMs: number;
  readonly writtenAfterNotice: number;
}

export async function hogs(options: { minutes: number; as: As }): Promise<HogsResult> {
  const { minutes, as } = options;
  await using on = await stage(as, as === 'root' ? FORK_STORM : WRITER);
  const count = Math.max(2, availableParallelism());
  const burning = Array.from({ length: count }, () =>
    spawn('perl', ['-e', 'while (1) {}'], { stdio: 'ignore' }),
  );
  try {
    await sleep(minutes * 60_000);
    const falseFreezes = on.heard.filter(({ notice }) => notice.kind === 'frozen').length;
    on.forget();
    const stoppedMs = Date.now();
    on.daemon.process.kill('SIGSTOP');
    await on.hears('frozen');
    const before = on.sandbox.written();
    await sleep(500);
    const writtenAfterNotice = on.sandbox.written() - before;
    return {
      minutes,
      as,
      hogs: count,
      falseFreezes,
      frozenAfterMs: Math.round(on.sandbox.lastWriteMs() - stoppedMs),
      writtenAfterNotice,
    };
  } finally {
    for (const hog of burning) hog.kill('SIGKILL');
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '10' },
      as: { type: 'string', default: 'ordinary' },
    },
  });
  const as = values.as === 'root' ? 'root' : 'ordinary';
  const result = await hogs({ minutes: Number(values.minutes), as });
  process.stdout.write(`${JSON.stringify(result)}\n`);
  const { falseFreezes, frozenAfterMs, writtenAfterNotice } = result;
  const held = falseFreezes === 0 && frozenAfterMs < 700 && writtenAfterNotice === 0;
  process.exitCode = held ? 0 : 1;
}
