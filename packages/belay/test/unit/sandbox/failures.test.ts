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
      message: 'this host does not let you make user namespaces',
    });
  }
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
