// belay run: a command under Belay, in this terminal.

import { type Command, Option } from 'commander';
import { parseDuration } from '../config/duration.ts';
import { parseSize } from '../config/size.ts';
import { findHome } from '../control/home.ts';
import { type LaunchOptions, launch } from '../control/launch.ts';
import type { RunSummary } from '../control/protocol.ts';
import { parsePublished } from '../control/publish.ts';
import { BelayError } from '../core/errors.ts';
import { isRunId, type RunId } from '../core/ids.ts';
import { printable } from '../core/target.ts';
import { meaningOf } from '../sandbox/changes.ts';
import { bytes, jsonDocument, milliseconds } from './output.ts';

interface Options {
  readonly agent?: string;
  readonly env?: string;
  readonly parent?: string;
  readonly for?: string;
  readonly allow: readonly string[];
  readonly allowRead: readonly string[];
  readonly publish: readonly string[];
  readonly allowWrite: readonly string[];
  readonly shadow?: boolean;
  readonly budget: readonly string[];
  readonly workdir: string;
  readonly containment: 'sandbox' | 'external';
  readonly json?: boolean;
}

const MOST_CHANGES = 20;

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

export function register(program: Command): void {
  program
    .command('run')
    .description('run a command in the sandbox, with the gateway as its only way out')
    .usage('[options] -- COMMAND [ARGUMENT...]')
    .argument('<command...>')
    .option('--agent <name>', 'who acts, as belay.jsonc names it')
    .option('--env <name>', 'the environment that it acts in')
    .option(
      '--parent <run>',
      'as a part of that run: it may do no more, and ends with it and within a day',
    )
    .option('--for <time>', 'its grant is over after 90s, 30m, 2h')
    .option(
      '--allow <entry>',
      'permit a host, host:port, preset, tls://host, tcp://host:port or git.push:host/repository#branch; may be repeated',
      collect,
      [],
    )
    .option(
      '--allow-read <path>',
      'show a file or folder of the host; may be repeated',
      collect,
      [],
    )
    .option(
      '--allow-write <path>',
      'let it be written too; nothing in it is protected; may be repeated',
      collect,
      [],
    )
    .option(
      '--publish <port>',
      "reach the agent's server on 127.0.0.1: 3000, or 8080:3000; may be repeated",
      collect,
      [],
    )
    .option('--shadow', 'reads pass, writes are listed and refused')
    .option(
      '--budget <unit=cap>',
      'calls=100, bytes=10MB or denials=50; may be repeated',
      collect,
      [],
    )
    .option('--workdir <dir>', 'the workspace', '.')
    .addOption(
      new Option(
        '--containment <where>',
        'external: no sandbox, only the proxy; for hosts that refuse one',
      )
        .choices(['sandbox', 'external'])
        .default('sandbox'),
    )
    .option('--json', 'the summary as JSON on stderr')
    .passThroughOptions()
    .action(async (command: string[], options: Options) => {
      const end = await launch({
        home: findHome(process.env),
        ...(options.agent === undefined ? {} : { agent: options.agent }),
        ...(options.env === undefined ? {} : { environment: options.env }),
        ...(options.parent === undefined ? {} : { parent: parseParent(options.parent) }),
        ...(options.for === undefined ? {} : { forMs: parseFor(options.for) }),
        allow: options.allow,
        ports: options.publish.map(parsePublished),
        paths: { read: options.allowRead, write: options.allowWrite },
        shadow: options.shadow === true,
        containment: options.containment,
        caps: parseBudget(options.budget),
        workdir: options.workdir,
        command,
        env: process.env,
        tty: process.stdin.isTTY === true && process.stdout.isTTY === true,
        say: (line) => void process.stderr.write(`${line}\n`),
      });
      if (end.summary !== undefined) {
        process.stderr.write(
          options.json ? jsonDocument('run', end.summary) : summaryText(end.summary),
        );
      }
      process.exitCode = end.status;
    });
}

function parseParent(given: string): RunId {
  if (isRunId(given)) return given;
  throw new BelayError('ERR_USAGE', `\`${printable(given)}\` is not a run`, {
    hint: '`belay ps` lists the open ones',
  });
}

function parseFor(given: string): number {
  const forMs = parseDuration(given);
  if (forMs !== undefined) return forMs;
  throw new BelayError('ERR_USAGE', `the time \`${printable(given)}\` is not understood`, {
    hint: 'write 90s, 30m or 2h',
  });
}

function parseBudget(given: readonly string[]): LaunchOptions['caps'] {
  const caps: { calls?: number; bytes?: number; denials?: number } = {};
  for (const item of given) {
    const [unit, cap = ''] = item.split('=', 2);
    if ((unit === 'calls' || unit === 'denials') && /^\d{1,12}$/.test(cap)) {
      caps[unit] = Number(cap);
    } else {
      const size = unit === 'bytes' ? parseSize(cap) : undefined;
      if (size === undefined) {
        throw new BelayError('ERR_USAGE', `budget \`${item}\` is not understood`, {
          hint: 'write calls=100, bytes=10MB or denials=50',
        });
      }
      caps.bytes = size;
    }
  }
  return caps;
}

function summaryText(summary: RunSummary): string {
  const { run, calls, denials, denied, durationMs, firstCallMs, ledgerIndex } = summary;
  const { changes, changeCount, unwalked } = summary;
  const first = firstCallMs === null ? '' : `, first answer after ${milliseconds(firstCallMs)}`;
  const lines = [
    `belay: ${run}${summary.mode === 'shadow' ? ' (shadow)' : ''}: ${calls} calls, ` +
      `${denials} denied, ${bytes(summary.bytes)}, ${milliseconds(durationMs)}${first}; ` +
      `ledger at ${ledgerIndex}`,
  ];
  for (const { host, port, method, code, count, remedy } of denied) {
    const what = printable(`${method} ${host}:${port}`);
    lines.push(
      `belay: denied ${count}x ${what} (${code})${remedy === null ? '' : `; would allow it: ${remedy}`}`,
    );
  }
  for (const { path, how } of changes.slice(0, MOST_CHANGES)) {
    const meaning = meaningOf(path) ?? 'which others execute or obey';
    lines.push(`belay: ${how} ${printable(path)}, ${meaning}`);
  }
  const more = changeCount - Math.min(changes.length, MOST_CHANGES);
  if (more > 0) {
    const listed = changes.length < changeCount ? `${changes.length} of all` : 'them';
    lines.push(`belay: and ${more} more such files; \`belay show ${run}\` lists ${listed}`);
  }
  if (unwalked > 0) {
    const what = unwalked === 1 ? 'folder was' : 'folders were';
    lines.push(`belay: warning: ${unwalked} ${what} not searched for such files at the end`);
  }
  return `${lines.join('\n')}\n`;
}
