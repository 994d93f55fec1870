// belay init: a belay.jsonc to start from. Shows what it would write; never overwrites.

import { existsSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { INIT_TARGETS, initConfig } from '../config/init.ts';
import { configSchemaJson } from '../config/schema.ts';
import { BelayError } from '../core/errors.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('init')
    .description('write a belay.jsonc to start from')
    .option('--for <agent>', `one of ${INIT_TARGETS.join(', ')}`)
    .option('--print', 'only show it')
    .option('--schema', 'print the JSON Schema of belay.jsonc instead, for editors')
    .option('--json', 'as JSON')
    .action((options: { for?: string; print?: boolean; schema?: boolean; json?: boolean }) => {
      if (options.schema === true) {
        process.stdout.write(`${JSON.stringify(configSchemaJson(), null, 2)}\n`);
        return;
      }
      const text = initConfig(options.for);
      const file = 'belay.jsonc';
      if (options.print !== true) {
        if (existsSync(file)) {
          throw new BelayError('ERR_USAGE', `\`${file}\` exists`, {
            hint: '`belay init --print` shows what would be written',
          });
        }
        writeFileSync(file, text, { flag: 'wx' });
      }
      if (options.json) return printJson('init', { file, written: options.print !== true, text });
      process.stdout.write(text);
      if (options.print !== true) {
        process.stderr.write(
          `belay: wrote ${file}; next: belay policy check, then belay run -- CMD\n`,
        );
      }
    });
}
