// belay doctor: what this host has, what it lacks, and why it matters.

import type { Command } from 'commander';
import { EXIT } from '../core/exit.ts';
import { preflight } from '../sandbox/preflight.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('doctor')
    .description('what this host lacks and why it matters')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const checks = await preflight();
      const ok = checks.every((check) => check.ok);
      if (options.json) printJson('doctor', { ok, checks });
      else {
        for (const { id, ok: fine, why, hint } of checks) {
          process.stdout.write(`${fine ? 'ok  ' : 'FAIL'}  ${id.padEnd(16)} ${why}\n`);
          if (!fine && hint !== undefined) process.stdout.write(`${' '.repeat(24)}${hint}\n`);
        }
      }
      if (!ok) process.exitCode = EXIT.unsuitable;
    });
}
