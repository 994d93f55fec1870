// belay watch: the open runs, redrawn as they move.

import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { bytes, milliseconds, table } from './output.ts';

const REDRAW_MS = 500;

export function register(program: Command): void {
  program
    .command('watch')
    .description('the open runs, redrawn as they move; Ctrl-C leaves')
    .action(async () => {
      const client = connectControl(findHome(process.env));
      let leaving = false;
      process.once('SIGINT', () => (leaving = true));
      const clear = process.stdout.isTTY ? '\u001b[H\u001b[2J' : '';
      while (!leaving) {
        const { guard, ledger, runs } = await client.get<DaemonStatus>('/v1/status');
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
        await new Promise((resolve) => setTimeout(resolve, REDRAW_MS));
      }
    });
}
