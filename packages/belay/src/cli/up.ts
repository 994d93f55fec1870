// belay up: the daemon in the foreground, for a service manager or a second terminal.

import { type Command, InvalidArgumentError } from 'commander';
import { findHome, prepareHome } from '../control/home.ts';
import { supervise } from '../control/spawner.ts';
import { daemonOwner } from '../control/start-daemon.ts';
import { printJson } from './output.ts';

export function register(program: Command): void {
  program
    .command('up')
    .description('start the daemon and stay; Ctrl-C ends it')
    .option('--proxy-port <port>', 'where agents outside a sandbox find the proxy', port)
    .option('--json', 'says that it is up as JSON')
    .action(async (options: { proxyPort?: number; json?: boolean }) => {
      const home = findHome(process.env);
      const owner = daemonOwner();
      prepareHome(home, owner);
      process.exitCode = await supervise({
        home,
        ...(owner === undefined ? {} : { owner }),
        ...(options.proxyPort === undefined ? {} : { proxyPort: options.proxyPort }),
        onReady: () => {
          if (options.json) printJson('up', { state: home.root });
          else process.stderr.write(`belay: up, state in ${home.root}\n`);
        },
      });
    });
}

function port(text: string): number {
  const number = Number(text);
  if (/^\d{1,5}$/.test(text) && number >= 1 && number <= 65_535) return number;
  throw new InvalidArgumentError('not a port');
}
