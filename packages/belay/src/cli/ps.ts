// belay ps: the runs that are open.

import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { alive } from '../control/start-daemon.ts';
import { bytes, milliseconds, printJson, table } from './output.ts';

export function register(program: Command): void {
  program
    .command('ps')
    .description('the runs that are open')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const client = connectControl(findHome(process.env));
      const runs = (await alive(client)) ? (await client.get<DaemonStatus>('/v1/status')).runs : [];
      if (options.json) return printJson('ps', { runs });
      const rows = runs.map((run) => [
        run.run,
        run.parent ?? '-',
        run.agent,
        run.environment,
        run.mode,
        run.containment,
        run.state,
        milliseconds(Date.now() - run.startedAt),
        String(run.calls),
        String(run.denials),
        bytes(run.bytes),
        run.command.join(' ').slice(0, 60),
      ]);
      const head = [
        'RUN',
        'PARENT',
        'AGENT',
        'ENV',
        'MODE',
        'CONTAINMENT',
        'STATE',
        'AGE',
        'CALLS',
        'DENIED',
        'BYTES',
        'COMMAND',
      ];
      process.stdout.write(table(head, rows));
    });
}
