// Runs a script of commands against the installed `belay`. A script is a comment, commands, and
// the files they find in their folder, each after a line `-- name --` (the txtar format).
//
//   exec belay status --json     runs and must end with 0; `! exec` must not
//   status 2                     the status of the last exec
//   stdout RE, stderr RE         the last exec printed a match; with `!` it did not
//   stdin NAME                   the file that the next exec reads
//   env NAME=VALUE               for all that follow
//
// Words are split at blanks; 'single quotes' keep them together.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Finished, openSession, type Session } from './installed.ts';

export interface Script {
  /** The first comment line: what the script shows. */
  readonly sentence: string;
  readonly commands: readonly Command[];
  readonly files: readonly { readonly name: string; readonly text: string }[];
}

interface Command {
  readonly line: number;
  readonly text: string;
  readonly negated: boolean;
  readonly words: readonly string[];
}

export function parseScript(text: string): Script {
  const [head = '', ...parts] = text.split(/^-- (.+) --\n/m);
  const files: { name: string; text: string }[] = [];
  for (let i = 0; i < parts.length; i += 2) {
    files.push({ name: parts[i] as string, text: parts[i + 1] ?? '' });
  }
  const lines = head.split('\n').map((line) => line.trim());
  const commands = lines
    .map((line, index) => ({ line: index + 1, text: line, ...negation(splitWords(line)) }))
    .filter(({ text }) => text !== '' && !text.startsWith('#'));
  const sentence = lines.find((line) => /^# (?!verifies:)/.test(line))?.slice(2);
  if (sentence === undefined)
    throw new Error('a script begins with a comment that says what it shows');
  if (!commands.some(({ words }) => words[0] === 'exec'))
    throw new Error('a script runs something');
  return { sentence, commands, files };
}

function negation(words: readonly string[]): { negated: boolean; words: readonly string[] } {
  return words[0] === '!' ? { negated: true, words: words.slice(1) } : { negated: false, words };
}

function splitWords(line: string): readonly string[] {
  return [...line.matchAll(/(?:'[^']*'|[^\s'])+/g)].map(([word]) => word.replaceAll("'", ''));
}

/** Throws at the first line that does not hold, with what the last command printed. */
export async function runScript(script: Script): Promise<void> {
  await using session = await openSession();
  for (const { name, text } of script.files) {
    const path = join(session.workdir, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  const env: Record<string, string> = {};
  let last: Finished | undefined;
  let input = '';
  for (const command of script.commands) {
    const [verb, ...words] = command.words;
    const [word = ''] = words;
    switch (verb) {
      case 'exec': {
        last = await execute(session, words, { env, input });
        input = '';
        if (last.timedOut) fail(command, last, 'took too long');
        if (command.negated === (last.status === 0))
          fail(command, last, `ended with ${last.status}`);
        break;
      }
      case 'status':
        if (last?.status !== Number(word)) fail(command, last, `the status is ${last?.status}`);
        break;
      case 'stdout':
      case 'stderr': {
        const found = new RegExp(words.join(' '), 'm').test(last?.[verb] ?? '');
        if (found === command.negated) fail(command, last, found ? 'found' : 'not found');
        break;
      }
      case 'stdin':
        input = readFileSync(join(session.workdir, word), 'utf8');
        break;
      case 'env': {
        const at = word.indexOf('=');
        env[word.slice(0, at)] = word.slice(at + 1);
        break;
      }
      default:
        fail(command, last, 'no such command');
    }
  }
}

function execute(
  session: Session,
  [program, ...args]: readonly string[],
  options: { readonly env: Record<string, string>; readonly input: string },
): Promise<Finished> {
  if (program === 'belay') return session.belay(args, options);
  return session.exec([program as string, ...args], options);
}

function fail(command: Command, last: Finished | undefined, why: string): never {
  throw new Error(
    `line ${command.line}: \`${command.text}\`: ${why}\n` +
      `--- stdout\n${last?.stdout ?? ''}\n--- stderr\n${last?.stderr ?? ''}`,
  );
}
