// belay uninstall: ends the daemon and removes the state of this home.

import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import { alive } from '../control/start-daemon.ts';
import { BelayError } from '../core/errors.ts';
import { removeTree } from '../sandbox/janitor.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('uninstall')
    .description('end the daemon and remove its state, the ledger included')
    .option('--yes', 'really do it')
    .option('--json', 'as JSON')
    .action(async (options: { yes?: boolean; json?: boolean }) => {
      const home = findHome(process.env);
      if (await alive(connectControl(home))) {
        throw new BelayError('ERR_USAGE', 'the daemon is running', {
          hint: '`belay down` ends it',
        });
      }
      const say = (removed: string | null): void => {
        if (options.json) printJson('uninstall', { removed });
        else {
          const what = removed === null ? 'nothing to remove' : `removed ${removed}`;
          process.stderr.write(`belay: ${what}\n`);
        }
      };
      if (!existsSync(`${home.root}/version`)) return say(null);
      if (options.yes !== true) {
        throw new BelayError(
          'ERR_USAGE',
          `this removes \`${home.root}\` with its ledger and keys`,
          {
            hint: 'repeat with --yes',
          },
        );
      }
      removeTree(home.root);
      say(home.root);
    });
}
