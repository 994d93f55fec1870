// The system calls an agent may make, as a classic BPF program for `bwrap --seccomp`. Refused: other
// processes' memory, new namespaces and mounts, kernel interfaces with a large attack surface, raw
// and exotic sockets, pushing input into a terminal, and every way to make a set-uid or set-gid
// file, which an idmapped workspace would otherwise turn into root's on the host's disk.
// Trusted: the kernel, and that the loads see what it will act on, so nothing behind a pointer is
// judged: calls that hide their flags there are answered ENOSYS, and libc falls back.

import { type Arch, AUDIT_ARCH, LAST_KNOWN, type Syscall, syscallNumber } from './syscalls.ts';

// linux/bpf_common.h: class, size, mode and operation, already combined.
const LOAD = 0x20;
const EQUAL = 0x15;
const AT_LEAST = 0x35;
const ANY_BIT = 0x45;
const RETURN = 0x06;
const AND = 0x54;

export const ALLOW = 0x7fff0000;
export const KILL = 0x80000000;
export const refuse = (errno: number): number => 0x00050000 | errno;
export const EPERM = 1;
export const ENOSYS = 38;
export const EPROTONOSUPPORT = 93;
export const ESOCKTNOSUPPORT = 94;
export const EAFNOSUPPORT = 97;

// struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits. Only low halves are
// read: every argument judged here is a 32-bit (or narrower) value to the kernel.
const NR = 0;
const ARCH = 4;
const arg = (index: number): number => 16 + 8 * index;

const X32_BIT = 0x40000000;
const NEW_NAMESPACES = 0x7e020000; // CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
const NEW_TIME = 0x80; // CLONE_NEWTIME; in clone() these bits are the exit signal
const SET_ID_BITS = 0o6000;
const CREATES = 0x400040; // __O_TMPFILE | O_CREAT: the mode is read only with one of them
const TERMINAL_IOCTLS = [0x5412, 0x541c, 0x5423]; // TIOCSTI, TIOCLINUX, TIOCSETD

/** Refused whatever the arguments are. */
export const DENIED: readonly Syscall[] = [
  ...(['ptrace', 'process_vm_readv', 'process_vm_writev', 'kcmp', 'pidfd_getfd'] as const),
  ...(['process_madvise', 'keyctl', 'add_key', 'request_key'] as const),
  ...(['bpf', 'perf_event_open', 'userfaultfd', 'modify_ldt', 'iopl', 'ioperm', 'uselib'] as const),
  ...(['io_uring_setup', 'io_uring_enter', 'io_uring_register'] as const),
  ...([
    'mount',
    'umount2',
    'pivot_root',
    'chroot',
    'setns',
    'open_tree',
    'open_tree_attr',
  ] as const),
  ...(['move_mount', 'fsopen', 'fsconfig', 'fsmount', 'fspick', 'mount_setattr'] as const),
  ...(['open_by_handle_at', 'name_to_handle_at', 'fanotify_init', 'lookup_dcookie'] as const),
  ...(['kexec_load', 'kexec_file_load', 'init_module', 'finit_module', 'delete_module'] as const),
  ...(['reboot', 'swapon', 'swapoff', 'acct', 'quotactl', 'quotactl_fd', 'nfsservctl'] as const),
  ...(['syslog', 'sysfs', '_sysctl', 'vhangup', 'sethostname', 'setdomainname'] as const),
  ...(['settimeofday', 'clock_settime', 'adjtimex', 'clock_adjtime'] as const),
  ...(['migrate_pages', 'move_pages'] as const),
];

export type Instruction = readonly [code: number, jt: number, jf: number, k: number];
type Program = Instruction[];

const load = (at: number): Instruction => [LOAD, 0, 0, at];
const and = (mask: number): Instruction => [AND, 0, 0, mask >>> 0];
const result = (value: number): Instruction => [RETURN, 0, 0, value >>> 0];
/** Continues behind `body` unless the test holds. */
const when = (test: number, k: number, body: Program): Program => [
  [test, 0, body.length, k >>> 0],
  ...body,
];
/** Continues behind `body` if the test holds. */
const unless = (test: number, k: number, body: Program): Program => [
  [test, body.length, 0, k >>> 0],
  ...body,
];
/** Returns `value` unless the accumulator is one of `values`. */
const oneOf = (values: readonly number[], value: number): Program => [
  ...values.map((k, i): Instruction => [EQUAL, values.length - i, 0, k >>> 0]),
  result(value),
];

/** The program for one architecture. */
export function seccompProgram(arch: Arch): readonly Instruction[] {
  const program: Program = [
    load(ARCH),
    ...unless(EQUAL, AUDIT_ARCH[arch], [result(KILL)]),
    load(NR),
  ];
  const on = (name: Syscall, body: Program): void => {
    const nr = syscallNumber(arch, name);
    if (nr !== undefined) program.push(...when(EQUAL, nr, body));
  };
  const refuseBits = (name: Syscall, index: number, bits: number): void =>
    on(name, [load(arg(index)), ...when(ANY_BIT, bits, [result(refuse(EPERM))]), result(ALLOW)]);

  // x32 shares AUDIT_ARCH_X86_64 and would reach every call under another number.
  program.push(...when(AT_LEAST, X32_BIT, [result(KILL)]));
  program.push(...when(AT_LEAST, LAST_KNOWN + 1, [result(refuse(ENOSYS))]));
  for (const name of DENIED) on(name, [result(refuse(EPERM))]);
  on('clone3', [result(refuse(ENOSYS))]);
  on('openat2', [result(refuse(ENOSYS))]);
  refuseBits('clone', 0, NEW_NAMESPACES);
  refuseBits('unshare', 0, NEW_NAMESPACES | NEW_TIME);
  on('socket', socketRules());
  on('socketpair', [load(arg(0)), ...oneOf([1], refuse(EAFNOSUPPORT)), result(ALLOW)]);
  on('ioctl', [
    load(arg(1)),
    ...TERMINAL_IOCTLS.flatMap((request) => when(EQUAL, request, [result(refuse(EPERM))])),
    result(ALLOW),
  ]);
  on('personality', [load(arg(0)), ...oneOf([0, 0xffffffff], refuse(EPERM)), result(ALLOW)]);

  refuseBits('chmod', 1, SET_ID_BITS);
  refuseBits('fchmod', 1, SET_ID_BITS);
  refuseBits('fchmodat', 2, SET_ID_BITS);
  refuseBits('fchmodat2', 2, SET_ID_BITS);
  refuseBits('creat', 1, SET_ID_BITS);
  for (const [name, flags, mode] of [
    ['open', 1, 2],
    ['openat', 2, 3],
  ] as const) {
    on(name, [
      load(arg(flags)),
      ...unless(ANY_BIT, CREATES, [result(ALLOW)]),
      load(arg(mode)),
      ...when(ANY_BIT, SET_ID_BITS, [result(refuse(EPERM))]),
      result(ALLOW),
    ]);
  }
  for (const [name, mode] of [
    ['mknod', 1],
    ['mknodat', 2],
  ] as const) {
    on(name, [
      load(arg(mode)),
      ...when(ANY_BIT, SET_ID_BITS, [result(refuse(EPERM))]),
      and(0o170000),
      ...oneOf([0, 0o100000, 0o010000], refuse(EPERM)), // a plain file or a named pipe
      result(ALLOW),
    ]);
  }
  program.push(result(ALLOW));
  return program;
}

/** Families UNIX, INET, INET6, and NETLINK for routes; streams and datagrams; TCP and UDP. */
function socketRules(): Program {
  const [UNIX, INET, INET6, NETLINK] = [1, 2, 10, 16];
  const [STREAM, DGRAM, RAW, SEQPACKET] = [1, 2, 3, 5];
  const type: Program = [load(arg(1)), and(0xf)];
  const internet: Program = [
    ...type,
    ...oneOf([STREAM, DGRAM], refuse(ESOCKTNOSUPPORT)),
    load(arg(2)),
    ...oneOf([0, 6, 17], refuse(EPROTONOSUPPORT)),
    result(ALLOW),
  ];
  return [
    load(arg(0)),
    ...when(EQUAL, UNIX, [
      ...type,
      ...oneOf([STREAM, DGRAM, SEQPACKET], refuse(ESOCKTNOSUPPORT)),
      result(ALLOW),
    ]),
    ...when(EQUAL, INET, internet),
    ...when(EQUAL, INET6, internet),
    ...when(EQUAL, NETLINK, [
      ...type,
      ...oneOf([DGRAM, RAW], refuse(ESOCKTNOSUPPORT)),
      load(arg(2)),
      ...oneOf([0], refuse(EAFNOSUPPORT)),
      result(ALLOW),
    ]),
    result(refuse(EAFNOSUPPORT)),
  ];
}

/** The program as `struct sock_filter[]`, little-endian, which is what bwrap reads. */
export function seccompBytes(arch: Arch): Buffer {
  const program = seccompProgram(arch);
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, jt, jf, k], i) => {
    bytes.writeUInt16LE(code, i * 8);
    bytes.writeUInt8(jt, i * 8 + 2);
    bytes.writeUInt8(jf, i * 8 + 3);
    bytes.writeUInt32LE(k, i * 8 + 4);
  });
  return bytes;
}
