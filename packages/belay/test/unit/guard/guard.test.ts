// The guard against real namespaces: the daemon stopped, dead, gone and back; the guard late, dead
// and replaced. Once as an ordinary user with signals, once as root with a cgroup.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { delegatedCgroup } from '../../../src/sandbox/cgroup.ts';
import { operateGuard, registerWithGuard } from '../../../src/sandbox/guard-client.ts';
import { verifies } from '../../verifies.ts';
import { FORK_STORM, WRITER } from './agents.ts';
import { startDaemon, startGuard } from './processes.ts';
import { until } from './sandbox-stand-in.ts';
import { type As, RUN, stage } from './stage.ts';

const noCgroup =
  process.getuid?.() !== 0
    ? 'a cgroup needs root'
    : delegatedCgroup() === undefined && 'no cgroup v2 in which to make one';

const ways: readonly { as: As; named: string; skip: string | false }[] = [
  { as: 'ordinary', named: 'an ordinary user, by signals', skip: false },
  { as: 'root', named: 'root, by cgroup', skip: noCgroup },
];

for (const { as, named, skip } of ways) {
  verifies(
    'guard.sigstop',
    `a stopped daemon freezes a fork storm within 700 ms, and it thaws with the daemon (${named})`,
    async () => {
      await using on = await stage(as, FORK_STORM);
      expect(on.seat.method).toBe(as === 'root' ? 'cgroup' : 'signal');
      for (let round = 0; round < 3; round++) {
        on.forget();
        await sleep(150);
        const stoppedMs = Date.now();
        on.daemon.process.kill('SIGSTOP');
        await on.hears('frozen');
        const before = on.sandbox.written();
        await sleep(1_000);
        expect(on.sandbox.lastWriteMs() - stoppedMs).toBeLessThan(700);
        expect(on.sandbox.written() - before).toBe(0);
        on.daemon.process.kill('SIGCONT');
        await on.hears('thawed');
        await until('the agent writes again', () => on.sandbox.written() > before);
      }
      expect(on.sandbox.linkExists()).toBe(true);
      const told = () => on.daemon.said.flatMap(({ line }) => line.frozen ?? []);
      // Its launcher may hear of a thaw before the daemon does.
      await until('the daemon hears of the last thaw', () => told().length === 6);
      expect(told()).toEqual([true, false, true, false, true, false]);
    },
    { skip, timeoutMs: 30_000 },
  );

  verifies(
    ['guard.daemon-killed', 'guard.kill-without-daemon'],
    `a dead daemon means cut and frozen for good, also for the next daemon, until a kill (${named})`,
    async () => {
      await using on = await stage(as, FORK_STORM);
      expect(on.sandbox.linkExists()).toBe(true);
      on.daemon.process.kill('SIGKILL');
      const { notice } = await on.hears('final', 1_000);
      expect(notice).toEqual({ kind: 'final', reason: 'the daemon died' });
      expect(on.sandbox.linkExists()).toBe(false);
      const before = on.sandbox.written();

      await using next = await startDaemon(on.socket);
      next.send('thaw', RUN);
      expect((await next.hears('failed')).line.reason).toMatch(/stays frozen: the daemon died/);
      await sleep(500);
      expect(on.sandbox.written() - before).toBe(0);
      expect(on.heard.map((one) => one.notice.kind)).toEqual(['final']);
      next.process.kill('SIGKILL');

      using operator = await operateGuard(on.socket);
      expect(await operator.list()).toMatchObject([{ run: RUN, frozen: true }]);
      expect(on.sandbox.alive()).toBe(true);
      await operator.kill(RUN);
      await until('the sandbox has ended', () => !on.sandbox.alive(), 500);
      expect(await operator.list()).toEqual([]);
    },
    { skip, timeoutMs: 20_000 },
  );

  verifies(
    'guard.no-false-freeze',
    `a guard that slept for two seconds freezes nothing when it wakes (${named})`,
    async () => {
      await using on = await stage(as, WRITER);
      on.guard.process.kill('SIGSTOP');
      await sleep(2_000);
      on.guard.process.kill('SIGCONT');
      await sleep(1_000);
      expect(on.heard).toEqual([]);
      expect(on.daemon.said).toHaveLength(1);
      // It still does its work.
      on.daemon.process.kill('SIGSTOP');
      await on.hears('frozen', 1_500);
    },
    { skip, timeoutMs: 15_000 },
  );
}

verifies(
  'guard.daemon-killed',
  'a goodbye from the daemon while a run is alive frees nothing',
  async () => {
    await using on = await stage('ordinary', WRITER);
    on.daemon.send('leave');
    const { notice } = await on.hears('final', 1_000);
    expect(notice).toEqual({ kind: 'final', reason: 'the daemon left' });
    expect(on.sandbox.linkExists()).toBe(false);
  },
);

verifies('guard.daemon-killed', 'a daemon that dies while it is silent thaws nothing', async () => {
  await using on = await stage('ordinary', WRITER);
  on.daemon.process.kill('SIGSTOP');
  await on.hears('frozen');
  const before = on.sandbox.written();
  on.daemon.process.kill('SIGKILL');
  await on.hears('final', 1_000);
  await sleep(300);
  expect(on.sandbox.written() - before).toBe(0);
});

verifies(
  'guard.daemon-killed',
  'a guard that is told to end holds its frozen runs until the last has ended',
  async () => {
    await using on = await stage('ordinary', WRITER);
    on.guard.process.kill('SIGTERM');
    await on.hears('final', 1_000);
    await sleep(300);
    expect(on.guard.ended()).toBe(false);
    on.daemon.process.kill('SIGKILL');
    using operator = await operateGuard(on.socket);
    await operator.kill(RUN);
    await until('the guard has left', on.guard.ended, 1_000);
  },
);

verifies('run.kill', 'a launcher that is gone takes its run along, frozen or not', async () => {
  await using on = await stage('ordinary', FORK_STORM);
  on.seat[Symbol.dispose]();
  await until('the sandbox has ended', () => !on.sandbox.alive(), 1_000);
});

verifies(
  'guard.guard-killed',
  'a guard that replaces a dead one knows no run until it is told, and then guards it',
  async () => {
    await using on = await stage('ordinary', WRITER);
    on.guard.process.kill('SIGKILL');
    await on.hears('lost', 1_000);
    expect((await on.daemon.hears('lost')).line.lost).toBe('ERR_GUARD');
    await using _guard = await startGuard(on.socket, { root: false });
    await using daemon = await startDaemon(on.socket);
    daemon.send('ack', [RUN]);
    expect((await daemon.hears('done')).line.result).toEqual([]);
    const from = daemon.said.length;
    daemon.send('register', on.sandbox.registration);
    expect((await daemon.hears('done', from)).line.result).toBe('signal');
    daemon.send('ack', [RUN]);
    expect((await daemon.hears('done', from + 1)).line.result).toEqual([RUN]);
    on.forget();
    using _seat = await registerWithGuard({
      socket: on.socket,
      registration: on.sandbox.registration,
      onNotice: (notice) => void (on.heard as unknown[]).push({ notice }),
    });
    daemon.process.kill('SIGKILL');
    await on.hears('final', 1_000);
  },
);
