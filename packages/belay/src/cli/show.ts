// belay show: what a run did, from the ledger.

import type { Command } from 'commander';
import { entriesOf } from '../control/entries.ts';
import { findHome } from '../control/home.ts';
import { BelayError } from '../core/errors.ts';
import { entryText } from './entry-text.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('show')
    .description('what a run did')
    .argument('<run>')
    .option('--json', 'as JSON')
    .action(async (run: string, options: { json?: boolean }) => {
      const entries = await Array.fromAsync(entriesOf(findHome(process.env), { run }));
      if (entries.length === 0) {
        throw new BelayError('ERR_NOT_FOUND', `no run \`${run}\` in the ledger`, {
          hint: '`belay log runs` lists the runs of this home',
        });
      }
      if (options.json) return printJson('show', { run, entries });
      for (const entry of entries) process.stdout.write(`${entryText(entry)}\n`);
    });
}
