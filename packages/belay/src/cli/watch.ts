// belay watch: the open runs, redrawn as they move.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { bytes, milliseconds, printJson, table } from './output.ts';

const REDRAW_MS = 500;

export function register(program: Command): void {
  program
    .command('watch')
    .description('the open runs, redrawn as they move; Ctrl-C leaves')
    .option('--json', 'the status as a line of JSON, each time')
    .action(async (options: { json?: boolean }) => {
      const client = connectControl(findHome(process.env));
      let leaving = false;
      process.once('SIGINT', () => (leaving = true));
      const clear = process.stdout.isTTY ? '\u001b[H\u001b[2J' : '';
      while (!leaving) {
        const status = await client.get<DaemonStatus>('/v1/status');
        if (options.json) {
          printJson('status', status);
          await sleep(REDRAW_MS);
          continue;
        }
        const { guard, ledger, runs } = status;
        const rows = runs.map((run) => [
          run.run,
          run.agent,
          run.environment,
          run.mode,
          run.state,
          milliseconds(Date.now() - run.startedAt),
          String(run.calls),
          String(run.denials),
          bytes(run.bytes),
        ]);
        const head = ['RUN', 'AGENT', 'ENV', 'MODE', 'STATE', 'AGE', 'CALLS', 'DENIED', 'BYTES'];
        process.stdout.write(
          `${clear}guard ${guard}, ledger ${ledger.state} at ${ledger.entries}\n${table(head, rows)}`,
        );
        await sleep(REDRAW_MS);
      }
    });
}
