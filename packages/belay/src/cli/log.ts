// belay log: verify, list the runs, export.

import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { certificateHolds } from '../control/certificate.ts';
import { entriesOf } from '../control/entries.ts';
import { findHome, type Home } from '../control/home.ts';
import { verifySegments } from '../core/audit.ts';
import { BelayError } from '../core/errors.ts';
import { EXIT } from '../core/exit.ts';
import { printable } from '../core/target.ts';
import { segmentFiles, segmentsDirOf } from '../ledger/segment-files.ts';
import { bytes, jsonLine, printJson, table } from './output.ts';

export function register(program: Command): void {
  const log = program
    .command('log')
    .description('the ledger: its runs, its entries, its soundness');

  log
    .command('verify')
    .description('check every segment, frame, number and pair of the ledger')
    .argument('[dir]', 'a ledger folder, default: this home')
    .option('--json', 'as JSON')
    .action(async (dir: string | undefined, options: { json?: boolean }) => {
      const folder = dir ?? findHome(process.env).ledger;
      if (!existsSync(segmentsDirOf(folder))) {
        throw new BelayError('ERR_USAGE', `there is no ledger in \`${folder}\``);
      }
      const report = await verifySegments(segmentFiles(folder));
      const forged = dir === undefined ? await forgedCertificates(findHome(process.env)) : 0;
      const { entries, segments, problems, problemCount, openRuns } = report;
      const ok = report.ok && forged === 0;
      if (options.json) printJson('log.verify', { ...report, ok, forgedCertificates: forged });
      else {
        for (const { kind, segment, offset, reason } of problems) {
          process.stdout.write(`${kind}  ${segment} at byte ${offset}: ${printable(reason)}\n`);
        }
        if (forged > 0)
          process.stdout.write(`forged  ${forged} certificates are not this home's\n`);
        const open = openRuns === 0 ? '' : `, ${openRuns} runs open`;
        const how = ok ? 'sound' : `DAMAGED, ${problemCount + forged} problems`;
        process.stdout.write(`${how}: ${entries} entries in ${segments} segments${open}\n`);
      }
      if (!ok) process.exitCode = EXIT.ledger;
    });

  log
    .command('export')
    .description('every entry as a line of JSON')
    .action(async () => {
      for await (const entry of entriesOf(findHome(process.env), {})) {
        process.stdout.write(jsonLine(entry));
      }
    });

  log
    .command('runs', { isDefault: true })
    .description('the runs in the ledger')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const runs = new Map<
        string,
        {
          run: string;
          agent: string;
          env: string;
          mode: string;
          opened: string;
          calls: string;
          denials: string;
          bytes: string;
          end: string;
        }
      >();
      for await (const entry of entriesOf(findHome(process.env), {})) {
        if (entry.type === 'run.open') {
          runs.set(entry.run, {
            run: entry.run,
            agent: entry.agent,
            env: entry.env,
            mode: entry.mode,
            opened: new Date(entry.ts).toISOString().slice(0, 19),
            calls: '',
            denials: '',
            bytes: '',
            end: 'open',
          });
        } else if (entry.type === 'run.close') {
          const row = runs.get(entry.run);
          if (row === undefined) continue;
          row.calls = String(entry.calls);
          row.denials = String(entry.denials);
          row.bytes = bytes(entry.bytes);
          row.end = entry.reason;
        }
      }
      const rows = [...runs.values()];
      if (options.json) return printJson('log.runs', { runs: rows });
      const head = ['RUN', 'AGENT', 'ENV', 'MODE', 'OPENED', 'CALLS', 'DENIED', 'BYTES', 'END'];
      process.stdout.write(
        table(
          head,
          rows.map((row) => Object.values(row)),
        ),
      );
    });
}

/** How many certificates of sandboxes this home's key did not sign. */
async function forgedCertificates(home: Home): Promise<number> {
  let forged = 0;
  for await (const entry of entriesOf(home, {})) {
    if (entry.type === 'sandbox.certificate' && !certificateHolds(home, entry)) forged += 1;
  }
  return forged;
}
