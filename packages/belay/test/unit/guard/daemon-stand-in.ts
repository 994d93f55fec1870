// The daemon as the guard sees it: beats from its event loop, and does what its parent says.
//   node daemon-stand-in.ts SOCKET      lines in: [METHOD, ARGUMENT]      lines out: JSON

import { createInterface } from 'node:readline';
import { reasonOf } from '../../../src/core/errors.ts';
import { connectGuardAsDaemon } from '../../../src/sandbox/guard-client.ts';

const say = (what: unknown): boolean => process.stdout.write(`${JSON.stringify(what)}\n`);

try {
  const link = await connectGuardAsDaemon({
    socket: process.argv[2] as string,
    pid: process.pid,
    onFrozen: (frozen) => say({ frozen }),
    onLost: (error) => say({ lost: error.code }),
  });
  say({ connected: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const [method, argument] = JSON.parse(line) as ['ack', never];
    if ((method as string) === 'leave') {
      await link[Symbol.asyncDispose]();
      break;
    }
    await link[method](argument).then(
      (result: unknown) => say({ done: method, result }),
      (error: unknown) => say({ failed: method, reason: reasonOf(error) }),
    );
  }
  process.exit(0);
} catch (error) {
  say({ refused: reasonOf(error) });
}
