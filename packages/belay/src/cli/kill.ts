// belay kill: ends runs through the daemon, or through the guard when there is no daemon.

import type { Command } from 'commander';
import { findHome } from '../control/home.ts';
import { killRun } from '../control/kill.ts';
import { BelayError } from '../core/errors.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('kill')
    .description('deny, cut and end a run')
    .argument('[run]')
    .option('--all', 'every run')
    .option('--reason <text>', 'why, for the record', 'asked by the operator')
    .option('--json', 'as JSON')
    .action(
      async (
        run: string | undefined,
        options: { all?: boolean; reason: string; json?: boolean },
      ) => {
        if ((run === undefined) === (options.all !== true)) {
          throw new BelayError('ERR_USAGE', 'name one run, or --all', {
            hint: '`belay ps` lists the runs',
          });
        }
        const { killed, by } = await killRun(findHome(process.env), run, options.reason);
        if (options.json) return printJson('kill', { killed, by });
        process.stderr.write(
          killed.length === 0
            ? 'belay: nothing to kill\n'
            : `belay: killed ${killed.join(' ')}${by === 'guard' ? ' through the guard' : ''}\n`,
        );
      },
    );
}
