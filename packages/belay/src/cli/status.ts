// belay status: the daemon, its guard, its ledger and its runs.

import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('status')
    .description('the daemon, its guard, its ledger and its runs')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const home = findHome(process.env);
      const status = await connectControl(home).get<DaemonStatus>('/v1/status');
      if (options.json) return printJson('status', status);
      const { pid, version, ledger, guard, runs } = status;
      process.stdout.write(
        `daemon   ${version}, pid ${pid}\nguard    ${guard}\n` +
          `ledger   ${ledger.entries} entries, ${ledger.state}\nruns     ${runs.length}\n` +
          `state    ${home.root}\n`,
      );
    });
}
