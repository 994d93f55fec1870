// What a sandbox keeps from the kernel: calls that make namespaces and mounts or have a large attack
// surface, foreign ABIs, and typing into a terminal. One run makes every attempt. The controls are
// the same attempts outside: as the same uid, and as root of namespaces of its own, since the kernel
// refuses mounts to any ordinary uid. Where it refuses a call to everybody, the filter is still seen
// at work: it answers before the kernel looks at the arguments, whose nonsense has another error.

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { GETPID } from './getpid.ts';
import { type Attempt, type Attempted, keyed, NODE, openPlace, type Place } from './place.ts';

const NEW_USER = 0x10000000;
const NEW_NET = 0x40000000;
const SIGCHLD = 17;
/** Nonsense: the kernel has an objection of its own to each. */
const NOT_A_FD = -1;

/** A root of namespaces may do all of these. The last value is its answer, if not `done`. */
const MOUNTS: Readonly<Record<string, { readonly made: Attempt; readonly answer?: string }>> = {
  tmpfs: { made: ['call', 'mount', 'none', '/var/tmp', 'tmpfs', 0, ''] },
  bind: { made: ['call', 'mount', '/usr', '/var/tmp', '', 0x1000, ''] },
  nowhere: { made: ['call', 'mount', 'none', '/no/such', 'tmpfs', 0, ''], answer: 'ENOENT' },
  proc: { made: ['call', 'mount', 'proc', '/no/such', 'proc', 0, ''], answer: 'ENOENT' },
  attributes: { made: ['call', 'mount_setattr', -100, '/var/tmp', 0, [1, 0, 0, 0], 32] },
  remount: { made: ['call', 'mount', '', '/var/tmp', '', 0x1021, ''] },
  detach: { made: ['call', 'umount2', '/var/tmp', 2] },
  filesystem: { made: ['call', 'fsopen', 'tmpfs', 0] },
  pick: { made: ['call', 'fspick', -100, '/no/such', 0], answer: 'ENOENT' },
  configure: { made: ['call', 'fsconfig', NOT_A_FD, 0, 0, 0, 0], answer: 'EINVAL' },
  create: { made: ['call', 'fsmount', NOT_A_FD, 0, 0], answer: 'EBADF' },
  tree: { made: ['call', 'open_tree', -100, '/usr', 1] },
  handle: { made: ['call', 'open_tree', -100, '/usr', 0] },
  move: { made: ['call', 'move_mount', -100, '/no/such', -100, '/no/such', 0], answer: 'ENOENT' },
  pivot: { made: ['call', 'pivot_root', '/no/such', '/no/such'], answer: 'ENOENT' },
  root: { made: ['call', 'chroot', '/usr'] },
};

const RING_PARAMETERS = Array(16).fill(0);
const MAP_OF_ONE = [0x4_0000_0002, 0x1_0000_0004, 0, 0, 0, 0, 0, 0, 0];

const ATTEMPTS: Record<string, Attempt> = {
  unshareUser: ['call', 'unshare', NEW_USER],
  unshareUserNet: ['call', 'unshare', NEW_USER | NEW_NET],
  cloneUser: ['call', 'clone', NEW_USER | SIGCHLD, 0, 0, 0, 0],
  shellUser: ['shell', 'unshare --user --map-root-user id -u'],
  enterUser: ['enter', '/proc/self/ns/user', NEW_USER],
  clone3User: ['call', 'clone3', [NEW_USER, 0, 0, 0, SIGCHLD, 0, 0, 0], 64],
  clone3Plain: ['call', 'clone3', [0, 0, 0, 0, SIGCHLD, 0, 0, 0], 64],
  ring: ['call', 'io_uring_setup', 1, RING_PARAMETERS],
  ringEnter: ['call', 'io_uring_enter', NOT_A_FD, 1, 0, 0, 0, 0],
  ringRegister: ['call', 'io_uring_register', NOT_A_FD, 0, 0, 0],
  bpfMap: ['call', 'bpf', 0, MAP_OF_ONE, 20],
  bpfNonsense: ['call', 'bpf', 0xffff, MAP_OF_ONE, 20],
  faults: ['call', 'userfaultfd', 1],
  ...Object.fromEntries(Object.entries(MOUNTS).map(([name, { made }]) => [`mount ${name}`, made])),
};

const x64 = process.arch === 'x64';
const noForeign = x64 ? false : `no foreign ABI of ${process.arch} is tried`;

// TIOCSTI, the same with bits that the kernel does not read, and TIOCLINUX.
const TYPE = `use POSIX (); my $nr = (POSIX::uname())[4] eq 'x86_64' ? 16 : 29;
print "typed ", join(' ', map { my $c = 'x'; $! = 0; syscall($nr, 0, $_, $c) == 0 ? 'done' : $! + 0 }
  0x5412, (1 << 32) + 0x5412, 0x541c), "\\n";`;

let place: Place;
let inside: Readonly<Record<string, Attempted>>;
let outside: Readonly<Record<string, Attempted>>;
let asRoot: Readonly<Record<string, Attempted>>;

beforeAll(async () => {
  place = await openPlace();
  for (const [name, program] of Object.entries(GETPID)) {
    const path = join(place.workdir, name);
    writeFileSync(path, program);
    chmodSync(path, 0o755);
    ATTEMPTS[`program ${name}`] = ['program', path];
  }
  const all = Object.values(ATTEMPTS);
  inside = keyed(ATTEMPTS, (await place.attempt([], all)).results);
  outside = keyed(ATTEMPTS, await place.control(all));
  asRoot = keyed(ATTEMPTS, await place.control(all, { addresses: [] }));
}, 120_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
}, 60_000);

const number = (path: string): number =>
  existsSync(path) ? Number(readFileSync(path, 'utf8').trim()) : 0;

verifies('sys.userns', 'no user namespace can be made or entered', () => {
  for (const name of ['unshareUser', 'unshareUserNet', 'cloneUser']) {
    expect(outside[name]?.value, name).toBe('done');
    expect(inside[name]?.value, name).toBe('EPERM');
  }
  expect(outside.shellUser?.value).toMatchObject({ status: 0, out: '0' });
  expect(inside.shellUser?.value.status).not.toBe(0);
  // One's own cannot be entered again, which the kernel says to everybody in words of its own.
  expect(outside.enterUser?.value).toBe('EINVAL');
  expect(inside.enterUser?.value).toBe('EPERM');
});

verifies('sys.clone3', 'clone3, whose flags no filter can see, is not there', () => {
  expect(outside.clone3User?.value).toBe('done');
  expect(outside.clone3Plain?.value).toBe('done');
  expect(inside.clone3User?.value).toBe('ENOSYS');
  expect(inside.clone3Plain?.value).toBe('ENOSYS');
});

verifies('sys.mount', 'nothing can be mounted, moved, changed or unmounted', () => {
  for (const [name, { answer = 'done' }] of Object.entries(MOUNTS)) {
    expect(asRoot[`mount ${name}`]?.value, `${name} as root of a namespace`).toBe(answer);
    expect(inside[`mount ${name}`]?.value, name).toBe('EPERM');
  }
  // An ordinary uid outside may not mount either, and may do this much.
  expect(outside['mount handle']?.value).toBe('done');
});

verifies('sys.io-uring', 'io_uring, which makes calls that no filter sees, is refused', () => {
  // A host may have switched it off for everybody.
  const off = number('/proc/sys/kernel/io_uring_disabled') > 0;
  expect(outside.ring?.value).toBe(off ? 'EPERM' : 'done');
  expect(outside.ringEnter?.value).toBe('EBADF');
  expect(outside.ringRegister?.value).toMatch(/^(?:EBADF|EINVAL)$/);
  for (const name of ['ring', 'ringEnter', 'ringRegister']) {
    expect(inside[name]?.value, name).toBe('EPERM');
  }
});

verifies('sys.bpf', 'bpf is refused', () => {
  // Most kernels refuse maps and programs to every ordinary uid; other commands are still heard.
  const off = number('/proc/sys/kernel/unprivileged_bpf_disabled') > 0;
  expect(outside.bpfMap?.value).toBe(off ? 'EPERM' : 'done');
  expect(outside.bpfNonsense?.value).toBe('EINVAL');
  expect(inside.bpfMap?.value).toBe('EPERM');
  expect(inside.bpfNonsense?.value).toBe('EPERM');
});

verifies('sys.userfaultfd', 'userfaultfd is refused', () => {
  expect(outside.faults?.value).toBe('done');
  expect(inside.faults?.value).toBe('EPERM');
});

verifies(
  'sys.int80',
  'a 32-bit system call ends the process',
  () => {
    expect(inside['program own']?.value).toEqual({ status: 0, signal: null });
    // A kernel without the 32-bit ABI has no such gate and ends the process by itself.
    expect(outside['program int80']?.value).toEqual(
      has('CONFIG_IA32_EMULATION')
        ? { status: 0, signal: null }
        : { status: null, signal: 'SIGSEGV' },
    );
    expect(inside['program int80']?.value).toEqual({ status: null, signal: 'SIGSYS' });
  },
  { skip: noForeign },
);

verifies(
  'sys.x32',
  'an x32 system call ends the process',
  () => {
    // Most kernels have no x32 and answer ENOSYS to everybody: the process goes on and ends with 1.
    const status = has('CONFIG_X86_X32_ABI') ? 0 : 1;
    expect(outside['program x32']?.value).toEqual({ status, signal: null });
    expect(inside['program x32']?.value).toEqual({ status: null, signal: 'SIGSYS' });
  },
  { skip: noForeign },
);

/** Whether this kernel was built with an option; unknown counts as the usual. */
function has(option: 'CONFIG_IA32_EMULATION' | 'CONFIG_X86_X32_ABI'): boolean {
  const zipped = '/proc/config.gz';
  const plain = `/boot/config-${execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim()}`;
  const read = existsSync(zipped)
    ? ['zcat', zipped]
    : existsSync(plain)
      ? ['cat', plain]
      : ['true'];
  const [program = '', ...args] = read;
  const text = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 8 << 20 }).stdout;
  return text === '' ? option === 'CONFIG_IA32_EMULATION' : text.includes(`${option}=y`);
}

verifies(
  'sys.tiocsti',
  "an agent on its user's terminal cannot type into it",
  async () => {
    const script = place.put('type.pl', TYPE);
    const onTerminal = async (...command: readonly string[]): Promise<string> => {
      const line = command.map((word) => `'${word}'`).join(' ');
      const terminal = ['script', '-qec', line, '/dev/null'];
      const { stdout } = await place.session.exec(terminal);
      return /typed .*\d/.exec(stdout)?.[0] ?? stdout;
    };
    // A kernel may refuse it to everybody (EIO, 5). TIOCLINUX is of consoles only (ENOTTY, 25).
    const legacy = '/proc/sys/dev/tty/legacy_tiocsti';
    const typed = !existsSync(legacy) || number(legacy) === 1 ? 'done' : 5;
    expect(await onTerminal('perl', script)).toBe(`typed ${typed} ${typed} 25`);
    const { launcher } = place.session;
    expect(await onTerminal(NODE, launcher, 'run', '--', 'perl', script)).toBe('typed 1 1 1');
  },
  { timeoutMs: 40_000 },
);
