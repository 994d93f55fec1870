// belay status: the daemon, its guard, its ledger and its runs.

import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { alive } from '../control/start-daemon.ts';
import { EXIT } from '../core/exit.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('status')
    .description('the daemon, its guard, its ledger and its runs; 1 when there is no daemon')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const home = findHome(process.env);
      const client = connectControl(home);
      if (!(await alive(client))) {
        if (options.json) printJson('status', { daemon: 'not running' });
        else process.stdout.write(`daemon   not running\nstate    ${home.root}\n`);
        process.exitCode = EXIT.failed;
        return;
      }
      const status = await client.get<DaemonStatus>('/v1/status');
      if (options.json) return printJson('status', status);
      const { pid, version, ledger, guard, runs } = status;
      process.stdout.write(
        `daemon   ${version}, pid ${pid}\nguard    ${guard}\n` +
          `ledger   ${ledger.entries} entries, ${ledger.state}\nruns     ${runs.length}\n` +
          `state    ${home.root}\n`,
      );
    });
}
