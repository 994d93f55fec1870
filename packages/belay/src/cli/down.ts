// belay down: ends the daemon, and with it every run.

import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { connectControl } from '../control/client.ts';
import { findHome } from '../control/home.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { alive } from '../control/start-daemon.ts';
import { BelayError } from '../core/errors.ts';
import { printJson } from './output.ts';

const GONE_WITHIN_MS = 10_000;

export function register(program: Command): void {
  program
    .command('down')
    .description('end the daemon and every run')
    .option('--json', 'as JSON')
    .action(async (options: { json?: boolean }) => {
      const client = connectControl(findHome(process.env));
      const was = await alive(client);
      if (was) {
        const { pid } = await client.get<DaemonStatus>('/v1/status');
        await client.post('/v1/down', {});
        const deadline = performance.now() + GONE_WITHIN_MS;
        // Not when it stops answering, but when it has let go of its home.
        while (existsSync(`/proc/${pid}`)) {
          if (performance.now() > deadline)
            throw new BelayError('ERR_DAEMON', 'the daemon does not end');
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
      if (options.json) printJson('down', { was });
      else process.stderr.write(was ? 'belay: down\n' : 'belay: no daemon was running\n');
    });
}
