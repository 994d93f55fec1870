// The files by which a kernel starts programs as root or moves processes out of their limits, and
// the devices that give a machine or a network of one's own. Outside most of them are root's: the
// controls say who may, and where only root can make a stand-in (a node, a cgroup), a test that runs
// as an ordinary uid says so.

import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, globSync, mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { type Attempt, type Attempted, agentIds, keyed, openPlace, type Place } from './place.ts';

const root = process.getuid?.() === 0;
const CORE_PATTERN = '/proc/sys/kernel/core_pattern';
const LAST_PID = '/proc/sys/kernel/ns_last_pid';
const CGROUPS = globSync('/sys/fs/cgroup/{,*/}cgroup.procs').sort();
const RELEASE_AGENTS = globSync('/sys/fs/cgroup/{,*/}release_agent').sort();
const SEARCH =
  'find / -path /proc -prune -o -name cgroup.procs -print -o -name release_agent -print; ls /sys';
/** With major and minor number, the same everywhere. */
const DEVICES = {
  kvm: { path: '/dev/kvm', node: ['10', '232'] },
  tun: { path: '/dev/net/tun', node: ['10', '200'] },
} as const;

let place: Place;
let cgroup: OwnCgroup | undefined;
let inside: Readonly<Record<string, Attempted>>;
let outside: Readonly<Record<string, Attempted>>;

beforeAll(async () => {
  place = await openPlace();
  cgroup = makeCgroup();
  const both: Record<string, Attempt> = {
    mounts: ['shell', 'cat /proc/self/mountinfo'],
    lastPid: ['open', LAST_PID, 'r+'],
    corePattern: ['open', CORE_PATTERN, 'r+'],
    modprobe: ['open', '/proc/sys/kernel/modprobe', 'r+'],
    sysrq: ['open', '/proc/sysrq-trigger', 'a'],
    releaseAgents: ['shell', `cat ${RELEASE_AGENTS.join(' ')} /dev/null`],
    ownCgroup: ['open', join(cgroup?.to ?? '/none', 'cgroup.procs'), 'a'],
    kvm: ['open', '/dev/kvm', 'r+'],
    tun: ['open', '/dev/net/tun', 'r+'],
    'node-kvm': ['open', nodeOf('kvm'), 'r+'],
    'node-tun': ['open', nodeOf('tun'), 'r+'],
  };
  const more: Record<string, Attempt> = { ...both, search: ['shell', SEARCH] };
  inside = keyed(more, (await place.attempt([], Object.values(more))).results);
  outside = keyed(both, await place.control(Object.values(both)));
}, 120_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  for (const path of [cgroup?.to, cgroup?.from, cgroup?.above]) {
    if (path !== undefined) rmdirSync(path);
  }
}, 60_000);

/** A node of the device in the workspace, which anybody may open; only root can make it. */
function nodeOf(name: keyof typeof DEVICES): string {
  const path = join(place.workdir, name);
  if (root) execFileSync('mknod', ['-m', '666', path, 'c', ...DEVICES[name].node]);
  return path;
}

interface OwnCgroup {
  readonly above: string;
  readonly from: string;
  readonly to: string;
}

/** Two cgroups that the agent's uid may move its processes between; only root can make them. */
function makeCgroup(): OwnCgroup | undefined {
  if (!root) return undefined;
  const [hierarchy] = CGROUPS.filter((path) => path.includes('unified')).concat(CGROUPS);
  if (hierarchy === undefined) return undefined;
  const above = join(hierarchy, `../belay-test-${randomBytes(6).toString('hex')}`);
  const { uid, gid } = agentIds();
  const own = { above, from: join(above, 'from'), to: join(above, 'to') };
  for (const path of [own.above, own.from, own.to]) {
    mkdirSync(path);
    chownSync(join(path, 'cgroup.procs'), uid, gid);
  }
  return own;
}

/** Whether root of the host may; the attempts themselves are an ordinary uid's. */
function rootOpens(path: string): boolean {
  return spawnSync('perl', ['-e', 'open my $f, "+<", $ARGV[0] or exit 1', path]).status === 0;
}

verifies(
  'kfile.core-pattern',
  'no file by which the kernel starts a program can be written',
  () => {
    // Outside they are root's: an ordinary uid is refused by everybody's rule, root is not.
    if (root) expect(rootOpens(CORE_PATTERN)).toBe(true);
    for (const name of ['corePattern', 'modprobe', 'sysrq']) {
      expect(outside[name]?.value, name).toMatch(/^(?:EACCES|ENOENT)$/);
      expect(inside[name]?.value, name).toMatch(/^(?:EACCES|EROFS|ENOENT)$/);
    }
    // Anybody may open this one of them outside, so that what closes the folder is seen.
    expect(outside.lastPid?.value).toBe('opened');
    expect(inside.lastPid?.value).toBe('EROFS');
    const mounted = / \/proc\/sys (\S+)/.exec(inside.mounts?.value.out)?.[1];
    expect(mounted?.split(',')).toContain('ro');
  },
);

verifies('kfile.release-agent', 'no release agent of a cgroup is there', () => {
  // Outside it can be read by anybody and written by root alone; a host without version 1 has none.
  expect(outside.releaseAgents?.value.status).toBe(0);
  for (const path of root ? RELEASE_AGENTS : []) expect(rootOpens(path), path).toBe(true);
  expect(inside.releaseAgents?.value.status).toBe(RELEASE_AGENTS.length === 0 ? 0 : 1);
  expect(inside.mounts?.value.out).not.toMatch(/ - cgroup2? /);
  expect(outside.mounts?.value.out).toMatch(/ - cgroup2? /);
});

verifies('kfile.cgroup-procs', 'no process can be moved to another cgroup', async () => {
  expect(CGROUPS).not.toEqual([]);
  expect(inside.search?.value.out, 'no file of a cgroup is anywhere').toBe('');
  // Outside every one is there for the same search and refuses an ordinary uid.
  const tries = CGROUPS.map((path) => `test -r ${path} && ! test -w ${path}`).join(' && ');
  expect((await place.outside(['sh', '-c', tries])).status).toBe(0);
  const found = await place.outside(['find', '/sys/fs/cgroup', '-name', 'cgroup.procs']);
  expect(found.stdout).toContain(CGROUPS[0]);
});

verifies(
  'kfile.cgroup-procs',
  'a process that may move itself to a cgroup outside cannot inside',
  async () => {
    if (cgroup === undefined) throw new Error('no hierarchy of cgroups on this host');
    expect(outside.ownCgroup?.value).toBe('opened');
    expect(inside.ownCgroup?.value).toBe('ENOENT');
    const { uid, gid } = agentIds();
    const become = `setpriv --reuid ${uid} --regid ${gid} --clear-groups`;
    const move = `echo $$ > ${cgroup.to}/cgroup.procs && cat /proc/self/cgroup`;
    const from = `echo $$ > ${cgroup.from}/cgroup.procs && exec ${become} sh -c '${move}'`;
    const moved = await place.session.exec(['sh', '-c', from]);
    expect(moved.stdout, moved.stderr).toMatch(/\/belay-test-\w+\/to$/m);
  },
  { skip: !root && 'only root can make a cgroup for another uid' },
);

for (const [name, { path }] of Object.entries(DEVICES)) {
  const id = name === 'kvm' ? 'dev.kvm' : 'dev.tun';
  verifies(id, `${path} is not there`, () => {
    // A host may have none, or give it to nobody but root.
    expect(outside[name]?.value).toMatch(existsSync(path) ? /^(?:opened|EACCES)$/ : /^ENOENT$/);
    expect(inside[name]?.value).toBe('ENOENT');
  });

  verifies(
    id,
    `a node of ${path} in the workspace opens nothing`,
    () => {
      // Outside it opens the device, as far as the host has one.
      expect(outside[`node-${name}`]?.value).toMatch(existsSync(path) ? /^opened$/ : /^EN/);
      expect(inside[`node-${name}`]?.value).toBe('EACCES');
    },
    { skip: !root && 'only root can make a device node' },
  );
}
