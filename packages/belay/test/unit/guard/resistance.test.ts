// Agents that want out: they fork, continue each other, kill what they see. Each is frozen, or dead.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { verifies } from '../../verifies.ts';
import { CONTINUE_STORM, FORK_STORM, KILLER, VFORK_LOOP, WRITER } from './agents.ts';
import { until } from './sandbox-stand-in.ts';
import { RUN, stage } from './stage.ts';

const agents = {
  'replaces itself by forking': FORK_STORM,
  'starts commands through vfork': VFORK_LOOP,
  'continues whatever is stopped': CONTINUE_STORM,
  'kills every process that it can see or guess': KILLER,
};

for (const [does, program] of Object.entries(agents)) {
  verifies('guard.sigstop', `an agent that ${does} is frozen five times out of five`, async () => {
    await using on = await stage('ordinary', program);
    for (let round = 0; round < 5; round++) {
      const from = on.daemon.said.length;
      on.daemon.send('freeze', RUN);
      await on.daemon.hears('done', from);
      const before = on.sandbox.written();
      await sleep(200);
      expect(on.sandbox.written() - before).toBe(0);
      on.daemon.send('thaw', RUN);
      await on.daemon.hears('done', from + 1);
      await until('the agent writes again', () => on.sandbox.written() > before);
    }
  });
}

verifies('guard.sigstop', 'what somebody else continues is stopped again', async () => {
  await using on = await stage('ordinary', WRITER);
  on.daemon.send('freeze', RUN);
  await on.daemon.hears('done');
  const before = on.sandbox.written();
  for (const inside of on.sandbox.processes()) process.kill(inside, 'SIGCONT');
  await until('it ran for a moment', () => on.sandbox.written() > before, 1_000);
  await sleep(300);
  const held = on.sandbox.written();
  await sleep(500);
  expect(on.sandbox.written() - held).toBe(0);
});

verifies(
  'guard.sigstop',
  'an agent that can reach the inner guard and kills it, ends',
  async () => {
    const patient = `sleep 1 until -e 'go'; ${KILLER}`;
    await using on = await stage(
      'ordinary',
      `open(my $f, '>>', 'out'); syswrite $f, '.'; ${patient}`,
      {
        exposed: true,
      },
    );
    on.sandbox.touch('go');
    await until('the sandbox has ended', () => !on.sandbox.alive(), 4_000);
  },
);
