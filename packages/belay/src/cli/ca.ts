// belay ca: authorities beyond the public ones that upstreams may be signed by.

import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Client } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { Root } from '../control/roots.ts';
import { ensureDaemon } from '../control/start-daemon.ts';
import { BelayError, reasonOf } from '../core/errors.ts';
import { printJson, table } from './output.ts';

interface Shared {
  readonly json?: boolean;
}

const MOST_BYTES = 1 << 20;

export function register(program: Command): void {
  const ca = program
    .command('ca')
    .description('roots that upstreams may be signed by, beyond the public ones');

  ca.command('import')
    .description('trust the authorities in a PEM file, from now on and for new runs')
    .argument('<file>')
    .option('--json', 'as JSON')
    .action(async (file: string, options: Shared) => {
      const pem = read(file);
      const { roots } = await (await daemon()).post<{ roots: readonly Root[] }>('/v1/roots', {
        pem,
      });
      if (options.json) return printJson('ca.import', { roots });
      for (const root of roots) process.stderr.write(`belay: trusts ${nameOf(root)}\n`);
      if (roots.length === 0) process.stderr.write('belay: known already\n');
    });

  ca.command('list')
    .description('what was imported')
    .option('--json', 'as JSON')
    .action(async (options: Shared) => {
      const { roots } = await (await daemon()).get<{ roots: readonly Root[] }>('/v1/roots');
      if (options.json) return printJson('ca.list', { roots });
      if (roots.length === 0) return void process.stderr.write('belay: no roots were imported\n');
      const rows = roots.map(({ fingerprint, subject, expires }) => [
        fingerprint.slice(0, 16),
        subject,
        expires.slice(0, 10),
      ]);
      process.stdout.write(table(['FINGERPRINT', 'SUBJECT', 'EXPIRES'], rows));
    });

  ca.command('remove')
    .description('trust it no more')
    .argument('<fingerprint>', 'or the beginning of one')
    .option('--json', 'as JSON')
    .action(async (fingerprint: string, options: Shared) => {
      const root = await (await daemon()).post<Root>('/v1/roots/remove', { fingerprint });
      if (options.json) return printJson('ca.remove', { root });
      process.stderr.write(`belay: trusts ${nameOf(root)} no more\n`);
    });
}

function daemon(): Promise<Client> {
  return ensureDaemon(findHome(process.env));
}

function read(file: string): string {
  try {
    const text = readFileSync(file, 'latin1');
    if (text.length <= MOST_BYTES) return text;
  } catch (error) {
    throw new BelayError('ERR_USAGE', `cannot read \`${file}\`: ${reasonOf(error)}`);
  }
  throw new BelayError('ERR_USAGE', `\`${file}\` is larger than 1 MiB`);
}

function nameOf({ subject, fingerprint }: Root): string {
  return `${subject} (${fingerprint.slice(0, 16)})`;
}
