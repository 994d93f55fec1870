// What the host's tools say becomes one message with a remedy.

import { expect, test } from 'vitest';
import { hostFailure } from '../../../src/sandbox/failures.ts';
import { preflight } from '../../../src/sandbox/preflight.ts';
import { verifies } from '../../verifies.ts';

verifies('host.no-bwrap', 'a missing program is named, with its package', () => {
  for (const said of [
    'nsenter: failed to execute bwrap: No such file or directory\n',
    'belay: exec bwrap: No such file or directory\n',
    'bwrap: spawn bwrap ENOENT',
  ]) {
    const error = hostFailure('x', said);
    expect(error).toMatchObject({
      code: 'ERR_HOST',
      message: '`bwrap` is not installed',
      hint: 'apt-get install bubblewrap',
    });
  }
});

verifies('host.no-userns', 'refused user namespaces are named, with the settings', () => {
  for (const said of [
    'unshare: unshare failed: Operation not permitted',
    'unshare: unshare failed: No space left on device',
    'unshare: write failed /proc/self/uid_map: Operation not permitted',
    'bwrap: No permissions to create a new namespace',
  ]) {
    expect(hostFailure('x', said)).toMatchObject({
      code: 'ERR_HOST',
      message: expect.stringContaining('user namespaces'),
    });
  }
});

verifies('host.causes', 'each known cause is told apart, with the line to type for it', () => {
  const refused = 'unshare: unshare failed: Operation not permitted';
  const hosts: readonly [Record<string, string>, string, RegExp, RegExp][] = [
    [{ '/proc/sys/user/max_user_namespaces': '0' }, refused, /max_user_namespaces is 0/, /sysctl/],
    [{}, 'unshare: unshare failed: No space left on device', /run out/, /max_user_namespaces/],
    [
      { '/proc/sys/kernel/unprivileged_userns_clone': '0' },
      refused,
      /for root/,
      /unprivileged_userns_clone=1/,
    ],
    [{ '/.dockerenv': '' }, refused, /container/, /seccomp=unconfined/],
    [{ '/run/.containerenv': '' }, refused, /container/, /seccomp=unconfined/],
    [{ '/proc/1/cgroup': '0::/kubepods/pod1' }, refused, /container/, /seccomp=unconfined/],
    [
      { '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1' },
      'bwrap: setting up uid map: Permission denied (uid_map)',
      /AppArmor/,
      /sudo sh \/.*\/bin\/apparmor-setup/,
    ],
    [
      { '/proc/sys/user/max_user_namespaces': '10000', '/proc/1/cgroup': '0::/init.scope' },
      refused,
      /does not let you/,
      /external/,
    ],
  ];
  for (const [files, said, message, hint] of hosts) {
    const error = hostFailure('x', said, (path) => files[path]);
    expect(error.code).toBe('ERR_HOST');
    expect(error.message).toMatch(message);
    expect(error.hint).toMatch(hint);
    // Never the switch that takes a protection from the whole host where a profile would do.
    expect(error.hint).not.toContain('apparmor_restrict_unprivileged_userns=0');
  }
  const old = hostFailure('x', 'bwrap: Unknown option --disable-userns');
  expect(old).toMatchObject({ code: 'ERR_HOST', message: expect.stringContaining('0.8.0') });
  const noNft = hostFailure('x', 'belay: exec nft: No such file or directory');
  expect(noNft).toMatchObject({ code: 'ERR_HOST', hint: 'apt-get install nftables' });
});

test('a filesystem that cannot lend a workspace gets the line that gives it away', () => {
  const error = hostFailure('x', 'belay: idmap /srv/work: Invalid argument');
  expect(error.code).toBe('ERR_HOST');
  expect(error.hint).toContain('chown -R');
});

test('what is not known is passed on, safe to print', () => {
  const error = hostFailure('the sandbox could not be built', 'bwrap: odd \x1b[2J thing\n');
  expect(error.code).toBe('ERR_SANDBOX');
  expect(error.message).toBe('the sandbox could not be built: bwrap: odd \\u{1b}[2J thing');
});

test('on a host where sandboxes work every check is ok', async () => {
  const checks = await preflight();
  expect(checks.filter(({ ok }) => !ok)).toEqual([]);
  expect(checks.map(({ id }) => id)).toEqual(
    expect.arrayContaining(['bwrap', 'ip', 'nft', 'user-namespaces', 'tproxy', 'cgroup']),
  );
});
