// belay demo: a reckless scripted agent in a real sandbox, against real services on this machine.

import { readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { asBelayError } from '../core/errors.ts';
import { EXIT } from '../core/exit.ts';
import { printable } from '../core/target.ts';
import { runDemo } from '../demo/demo.ts';
import { reportHtml } from '../demo/report.ts';
import { tableText } from '../demo/table.ts';
import { printJson } from './output.ts';

interface Options {
  readonly report: string;
  readonly keep?: boolean;
  readonly json?: boolean;
}

export function register(program: Command): void {
  program
    .command('demo')
    .description('a reckless scripted agent against real local services, in a real sandbox')
    .option('--report <file>', 'where the HTML report goes', 'belay-demo-report.html')
    .option('--keep', 'leave the temporary folder with the project and its ledger')
    .option('--json', 'as JSON')
    .action(async ({ report, keep, json }: Options) => {
      const say = (line: string): void => void process.stderr.write(`belay: ${line}\n`);
      const abort = new AbortController();
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => abort.abort());
      const { signal } = abort;
      const result = await runDemo({ cwd: process.cwd(), keep: keep === true, say, signal });
      const path = resolve(report);
      const facts = {
        version: version(),
        node: process.version,
        kernel: release(),
        madeAt: new Date().toISOString(),
      };
      try {
        writeFileSync(path, reportHtml(result, facts));
      } catch (error) {
        throw asBelayError('ERR_USAGE', `cannot write \`${report}\``, error);
      }
      if (!result.ok) process.exitCode = EXIT.failed;
      if (json === true) return printJson('demo', { ...result, report: path });
      process.stdout.write(`\n${tableText(result.rows)}\n`);
      for (const text of result.said) process.stdout.write(`the agent says: ${printable(text)}\n`);
      process.stdout.write(`belay log verify: ${printable(result.verified.line)}\n`);
      process.stdout.write(`report: ${path}\n`);
      if (result.kept !== undefined) process.stdout.write(`kept: ${result.kept}\n`);
      const wrong = result.rows.filter(({ ok }) => !ok).map(({ scene }) => scene.act);
      if (wrong.length > 0) say(`not as it should be: ${wrong.join(', ')}`);
      if (result.arrivals.length > 0) say(`${result.arrivals.length} requests arrived`);
    });
}

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
