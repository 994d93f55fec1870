// The command line: one file per command, no logic here. Errors end in one place; nothing calls
// process.exit but for a reader that left, so everything that was opened is closed.

import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { BelayError } from '../core/errors.ts';
import { EXIT } from '../core/exit.ts';
import { fail } from './output.ts';

const LOADERS = {
  demo: () => import('./demo.ts'),
  init: () => import('./init.ts'),
  run: () => import('./run.ts'),
  up: () => import('./up.ts'),
  down: () => import('./down.ts'),
  status: () => import('./status.ts'),
  doctor: () => import('./doctor.ts'),
  ps: () => import('./ps.ts'),
  show: () => import('./show.ts'),
  tail: () => import('./tail.ts'),
  watch: () => import('./watch.ts'),
  kill: () => import('./kill.ts'),
  log: () => import('./log.ts'),
  policy: () => import('./policy.ts'),
  ca: () => import('./ca.ts'),
  uninstall: () => import('./uninstall.ts'),
} as const;

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

// A reader that left, such as `head`, ends the command and is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

const program = new Command('belay')
  .description('The operational safety layer between AI agents and the systems they touch')
  .version(version())
  .enablePositionalOptions()
  .exitOverride()
  .configureOutput({
    outputError: (text, write) => write(text.replace(/^error: /, 'belay: error: ')),
  })
  .showHelpAfterError('belay: hint: `belay --help` lists the commands')
  .addHelpText(
    'after',
    '\nExit codes: 0 ok, 1 a check failed, 2 usage, 3 denied by policy, 4 budget exhausted,\n' +
      '5 stopped, 6 ledger verification failed, 69 host unsuitable; `run` passes on the\n' +
      "command's own.\n",
  );

try {
  // One command needs one command's modules; help and completion need all.
  const named = Object.entries(LOADERS).filter(([name]) => name === process.argv[2]);
  const loaders = (named.length > 0 ? named : Object.entries(LOADERS)).map(([, load]) => load());
  for (const { register } of await Promise.all(loaders)) register(program);
  program.allowExcessArguments().action(() => {
    const [name] = program.args;
    if (name !== undefined) {
      throw new BelayError('ERR_USAGE', `no command \`${name}\``, {
        hint: '`belay --help` lists them',
      });
    }
    program.outputHelp();
  });
  if (process.argv[2] === 'complete') {
    const { default: tab } = await import('@bomb.sh/tab/commander');
    tab(program);
  }
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT.usage;
  else fail(error);
}
