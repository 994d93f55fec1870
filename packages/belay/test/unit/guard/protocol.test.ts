// What the guard refuses: lines that are not in the grammar, requests of those who may not ask, and
// registrations that name processes which are no sandbox.

import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { expect } from 'vitest';
import { registerWithGuard } from '../../../src/sandbox/guard-client.ts';
import {
  parseClientLine,
  parseHello,
  type RunRegistration,
} from '../../../src/sandbox/guard-protocol.ts';
import { verifies } from '../../verifies.ts';
import { WRITER } from './agents.ts';
import { startBareDaemon } from './processes.ts';
import { until } from './sandbox-stand-in.ts';
import { RUN, stage } from './stage.ts';

verifies('guard.sigstop', 'a line outside the grammar is refused', () => {
  const run = '"run":"r-bcdfghjk","holder":5,"agentNet":6,"child":7,"cgroup":null';
  expect(parseHello(`{"v":1,"hello":"launcher",${run}}`).kind).toBe('launcher');
  expect(parseClientLine('{"beat":1}')).toEqual({ kind: 'beat' });
  for (const line of [
    '',
    'null',
    '[]',
    '{"v":2,"hello":"operator"}',
    '{"v":1,"hello":"root"}',
    '{"v":1,"hello":"operator","more":1}',
    '{"v":1,"hello":"daemon","pid":-1}',
    `{"v":1,"hello":"launcher",${run.replace('5', '1')}}`,
    `{"v":1,"hello":"launcher",${run.replace('r-bcdfghjk', '../../x')}}`,
  ]) {
    expect(() => parseHello(line), line).toThrow(/the guard refused/);
  }
  for (const line of [
    '{"beat":"1"}',
    '{"beat":1,"bye":true}',
    '{"bye":false}',
    '{"id":1}',
    '{"id":1,"kill":"r-bcdfghjk","cut":"r-bcdfghjk"}',
    '{"id":1,"kill":"all"}',
    '{"id":1,"ack":"r-bcdfghjk"}',
    '{"kill":"r-bcdfghjk"}',
  ]) {
    expect(() => parseClientLine(line), line).toThrow(/the guard refused/);
  }
});

verifies(
  'guard.sigstop',
  'only the daemon beats, freezes and thaws; others are cut off',
  async () => {
    await using on = await stage('ordinary', WRITER);
    expect(statSync(on.socket).mode & 0o777).toBe(0o600);
    for (const lines of [
      '{"v":1,"hello":"operator"}\n{"beat":1}\n',
      `{"v":1,"hello":"operator"}\n{"id":1,"thaw":"${RUN}"}\n`,
      `{"v":1,"hello":"operator"}\n${'x'.repeat(5_000)}`,
      'GET / HTTP/1.1\n',
    ]) {
      const socket = connect(on.socket, () => socket.write(lines)).resume();
      let closed = false;
      socket
        .on('error', () => {})
        .on('close', () => {
          closed = true;
        });
      await until('the guard closes the connection', () => closed, 1_000);
    }
    await using second = startBareDaemon(on.socket);
    expect((await second.hears('refused')).line.refused).toMatch(/another daemon is connected/);
    expect(on.heard).toEqual([]);
  },
);

verifies('guard.sigstop', 'a registration that would reach the host is refused', async () => {
  await using on = await stage('ordinary', WRITER);
  const { registration } = on.sandbox;
  const run = 'r-zzzzzzzz' as typeof RUN;
  const wrong: readonly [Partial<RunRegistration>, RegExp][] = [
    [{ holder: process.pid }, /namespace of the host|permission|EACCES|EPERM/],
    [{ child: process.pid }, /not the first of a sandbox/],
    [{ child: registration.holder }, /not the first of a sandbox/],
    [{ agentNet: registration.holder }, /shares a network/],
    [
      { agentNet: registration.child, holder: registration.agentNet },
      /shares a network|no link v0/,
    ],
    [{ holder: 4_000_000 }, /is gone/],
    [{ cgroup: '/sys/fs/cgroup/unified' }, /does not hold it/],
    [{ cgroup: '/sys/fs/cgroup/unified/../../../../etc' }, /does not hold it/],
    [{ run: RUN, child: registration.holder }, /registered with other processes/],
  ];
  for (const [part, reason] of wrong) {
    await expect(
      registerWithGuard({
        socket: on.socket,
        registration: { ...registration, run, ...part },
        onNotice: () => {},
      }),
      JSON.stringify(part),
    ).rejects.toThrow(reason);
  }
  expect(on.sandbox.linkExists()).toBe(true);
  expect(on.heard).toEqual([]);
});
