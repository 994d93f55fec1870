// belay uninstall: ends the daemon and removes the state of this home.

import { existsSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import { alive } from '../control/start-daemon.ts';
import { BelayError } from '../core/errors.ts';

export function register(program: Command): void {
  program
    .command('uninstall')
    .description('end the daemon and remove its state, the ledger included')
    .option('--yes', 'really do it')
    .action(async (options: { yes?: boolean }) => {
      const home = findHome(process.env);
      if (await alive(connectControl(home))) {
        throw new BelayError('ERR_USAGE', 'the daemon is running', {
          hint: '`belay down` ends it',
        });
      }
      if (!existsSync(`${home.root}/version`)) {
        process.stderr.write('belay: nothing to remove\n');
        return;
      }
      if (options.yes !== true) {
        throw new BelayError(
          'ERR_USAGE',
          `this removes \`${home.root}\` with its ledger and keys`,
          {
            hint: 'repeat with --yes',
          },
        );
      }
      rmSync(home.root, { recursive: true, force: true });
      process.stderr.write(`belay: removed ${home.root} (${basename(home.root)})\n`);
    });
}
