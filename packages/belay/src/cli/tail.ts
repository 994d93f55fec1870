// belay tail: a run's entries as they are written.

import type { Command } from 'commander';
import { entriesOf } from '../control/entries.ts';
import { findHome } from '../control/home.ts';
import { entryText } from './entry-text.ts';
import { jsonLine } from './output.ts';

export function register(program: Command): void {
  program
    .command('tail')
    .description('entries as they are written')
    .argument('[run]', 'only those of one run')
    .option('--no-follow', 'stop at the last entry')
    .option('--from <index>', 'start at this entry', '0')
    .option('--json', 'entries as lines of JSON')
    .action(
      async (
        run: string | undefined,
        options: { follow: boolean; from: string; json?: boolean },
      ) => {
        const look = {
          from: Number(options.from) || 0,
          follow: options.follow,
          ...(run === undefined ? {} : { run }),
        };
        for await (const entry of entriesOf(findHome(process.env), look)) {
          process.stdout.write(options.json ? jsonLine(entry) : `${entryText(entry)}\n`);
          if (options.follow && entry.type === 'run.close' && entry.run === run) break;
        }
      },
    );
}
