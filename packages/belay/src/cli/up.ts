// belay up: the daemon in the foreground, for a service manager or a second terminal.

import type { Command } from 'commander';
import { findHome, prepareHome } from '../control/home.ts';
import { supervise } from '../control/spawner.ts';
import { daemonOwner } from '../control/start-daemon.ts';

export function register(program: Command): void {
  program
    .command('up')
    .description('start the daemon and stay; Ctrl-C ends it')
    .action(async () => {
      const home = findHome(process.env);
      const owner = daemonOwner();
      prepareHome(home, owner);
      process.exitCode = await supervise({
        home,
        ...(owner === undefined ? {} : { owner }),
        onReady: () => process.stderr.write(`belay: up, state in ${home.root}\n`),
      });
    });
}
