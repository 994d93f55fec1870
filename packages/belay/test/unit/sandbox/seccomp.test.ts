// The filter against its policy: named cases, and a model written apart from the program, compared
// on random calls and arguments. The numbers are compared with the kernel's headers where present.

import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ALLOW,
  DENIED,
  EAFNOSUPPORT,
  ENOSYS,
  EPERM,
  EPROTONOSUPPORT,
  ESOCKTNOSUPPORT,
  KILL,
  refuse,
  seccompBytes,
  seccompProgram,
} from '../../../src/sandbox/seccomp.ts';
import {
  type Arch,
  AUDIT_ARCH,
  LAST_KNOWN,
  SYSCALLS,
  type Syscall,
  syscallNumber,
} from '../../../src/sandbox/syscalls.ts';
import { verifies } from '../../verifies.ts';
import { assertLoadable, runFilter, seccompData } from './bpf.ts';

const ARCHES: readonly Arch[] = ['x64', 'arm64'];
const CLONE_NEW = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000];

function ask(arch: Arch, name: Syscall | number, ...args: readonly number[]): number {
  const nr = typeof name === 'number' ? name : syscallNumber(arch, name);
  if (nr === undefined) throw new RangeError(`${arch} has no ${name}`);
  const data = { nr, arch: AUDIT_ARCH[arch], args: args.map((value) => BigInt(value >>> 0)) };
  return runFilter(seccompProgram(arch), seccompData(data));
}

describe.each(ARCHES)('%s', (arch) => {
  const has = (name: Syscall) => syscallNumber(arch, name) !== undefined;

  test('the kernel would load it, and the bytes are the program', () => {
    const program = seccompProgram(arch);
    assertLoadable(program);
    const bytes = seccompBytes(arch);
    expect(bytes.length).toBe(program.length * 8);
    expect(bytes.readUInt16LE(0)).toBe(0x20);
    expect(bytes.readUInt32LE(4)).toBe(4);
  });

  test('another architecture is killed, whatever it calls', () => {
    for (const foreign of [0x40000003, 0x40000028, 0, AUDIT_ARCH[arch] ^ 0xfd]) {
      const data = seccompData({ nr: 39, arch: foreign, args: [] });
      expect(runFilter(seccompProgram(arch), data)).toBe(KILL);
    }
  });

  test('the x32 numbers are killed and numbers that we do not know have no answer', () => {
    expect(ask(arch, 0x40000000)).toBe(KILL);
    expect(ask(arch, 0xffffffff)).toBe(KILL);
    expect(ask(arch, LAST_KNOWN)).toBe(ALLOW);
    expect(ask(arch, LAST_KNOWN + 1)).toBe(refuse(ENOSYS));
    expect(ask(arch, 0x3fffffff)).toBe(refuse(ENOSYS));
  });

  verifies('ptrace.attach', `${arch}: no call reaches into another process`, () => {
    // By name: a list that the program is built from says nothing of what it forgot.
    for (const name of [
      ...(['ptrace', 'process_vm_readv', 'process_vm_writev'] as const),
      ...(['process_madvise', 'pidfd_getfd', 'kcmp'] as const),
    ]) {
      expect(ask(arch, name), name).toBe(refuse(EPERM));
    }
  });

  test('every denied call is refused', () => {
    for (const name of DENIED) if (has(name)) expect(ask(arch, name)).toBe(refuse(EPERM));
    for (const name of ['clone3', 'openat2'] as const) expect(ask(arch, name)).toBe(refuse(ENOSYS));
  });

  test('new namespaces are refused one by one, threads and processes are not', () => {
    for (const flag of CLONE_NEW) {
      expect(ask(arch, 'clone', flag | 17)).toBe(refuse(EPERM));
      expect(ask(arch, 'unshare', flag)).toBe(refuse(EPERM));
    }
    expect(ask(arch, 'unshare', 0x80)).toBe(refuse(EPERM));
    expect(ask(arch, 'clone', 0x3d0f00)).toBe(ALLOW);
    expect(ask(arch, 'clone', 17)).toBe(ALLOW);
  });

  test('sockets: UNIX, TCP and UDP over both families, and routes', () => {
    const CLOEXEC_NONBLOCK = 0o2004000;
    for (const [family, type, protocol, answer] of [
      [1, 1, 0, ALLOW],
      [1, 5, 0, ALLOW],
      [1, 3, 0, refuse(ESOCKTNOSUPPORT)],
      [2, 1, 0, ALLOW],
      [2, 1, 6, ALLOW],
      [10, 2, 17, ALLOW],
      [2, 3, 1, refuse(ESOCKTNOSUPPORT)],
      [10, 3, 255, refuse(ESOCKTNOSUPPORT)],
      [2, 2, 1, refuse(EPROTONOSUPPORT)],
      [2, 1, 262, refuse(EPROTONOSUPPORT)],
      [2, 1, 132, refuse(EPROTONOSUPPORT)],
      [2, 5, 132, refuse(ESOCKTNOSUPPORT)],
      [16, 3, 0, ALLOW],
      [16, 2, 0, ALLOW],
      [16, 3, 9, refuse(EAFNOSUPPORT)],
      [17, 3, 3, refuse(EAFNOSUPPORT)],
      [38, 5, 0, refuse(EAFNOSUPPORT)],
      [40, 1, 0, refuse(EAFNOSUPPORT)],
    ] as const) {
      expect([family, type, protocol, ask(arch, 'socket', family, type, protocol)]).toEqual([
        ...[family, type, protocol, answer],
      ]);
      expect(ask(arch, 'socket', family, type | CLOEXEC_NONBLOCK, protocol)).toBe(answer);
    }
    expect(ask(arch, 'socketpair', 1, 1)).toBe(ALLOW);
    expect(ask(arch, 'socketpair', 30, 1)).toBe(refuse(EAFNOSUPPORT));
  });

  test('input cannot be pushed into a terminal, and its size can be read', () => {
    expect(ask(arch, 'ioctl', 0, 0x5412)).toBe(refuse(EPERM));
    expect(ask(arch, 'ioctl', 0, 0x541c)).toBe(refuse(EPERM));
    expect(ask(arch, 'ioctl', 0, 0x5413)).toBe(ALLOW);
    // The kernel reads 32 bits of the request: what stands above them changes nothing.
    const args = [0n, (1n << 40n) | 0x5412n];
    const data = { nr: syscallNumber(arch, 'ioctl') as number, arch: AUDIT_ARCH[arch], args };
    expect(runFilter(seccompProgram(arch), seccompData(data))).toBe(refuse(EPERM));
  });

  verifies('fsw.set-uid', `${arch}: no call can give a file set-uid or set-gid bits`, () => {
    const modes = [0o4755, 0o2755, 0o6000, 0o104755];
    const places: readonly (readonly [Syscall, (mode: number) => number[]])[] = [
      ['chmod', (mode) => [0, mode]],
      ['fchmod', (mode) => [3, mode]],
      ['fchmodat', (mode) => [3, 0, mode]],
      ['fchmodat2', (mode) => [3, 0, mode, 0]],
      ['creat', (mode) => [0, mode]],
      ['open', (mode) => [0, 0o101, mode]],
      ['openat', (mode) => [3, 0, 0o101, mode]],
      ['openat', (mode) => [3, 0, 0x410000 | 2, mode]],
      ['mknod', (mode) => [0, 0o100000 | mode]],
      ['mknodat', (mode) => [3, 0, 0o100000 | mode]],
    ];
    for (const [name, args] of places) {
      if (!has(name)) continue;
      for (const mode of modes) expect(ask(arch, name, ...args(mode))).toBe(refuse(EPERM));
      expect(ask(arch, name, ...args(0o1755))).toBe(ALLOW);
    }
    // Without a file being made the mode means nothing, and callers leave it as it is.
    expect(ask(arch, 'openat', 3, 0, 0, 0o4755)).toBe(ALLOW);
  });

  test('a named pipe may be made and a device may not', () => {
    expect(ask(arch, 'mknodat', 3, 0, 0o010644)).toBe(ALLOW);
    for (const kind of [0o020000, 0o060000, 0o140000]) {
      expect(ask(arch, 'mknodat', 3, 0, kind | 0o644)).toBe(refuse(EPERM));
    }
  });

  test('what a refused call is to libraries that agents use: pidfd_open works', () => {
    expect(ask(arch, 434)).toBe(ALLOW);
    expect(ask(arch, 'personality', 0)).toBe(ALLOW);
    expect(ask(arch, 'personality', 0xffffffff)).toBe(ALLOW);
    expect(ask(arch, 'personality', 0x40000)).toBe(refuse(EPERM));
  });

  test('the program agrees with the policy on random calls', () => {
    const program = seccompProgram(arch);
    const known = SYSCALLS.map((name) => syscallNumber(arch, name)).filter(
      (nr) => nr !== undefined,
    );
    const nr = fc.oneof(fc.constantFrom(...known), fc.integer({ min: 0, max: LAST_KNOWN }));
    const value = fc.oneof(
      fc.constantFrom(0n, 1n, 2n, 3n, 5n, 6n, 10n, 16n, 17n, 0o100644n, 0o104755n, 0x40n, 0x5412n),
      fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }),
    );
    fc.assert(
      fc.property(nr, fc.array(value, { minLength: 6, maxLength: 6 }), (number, args) => {
        const data = seccompData({ nr: number, arch: AUDIT_ARCH[arch], args });
        expect(runFilter(program, data)).toBe(policy(arch, number, args));
      }),
      { numRuns: 5000 },
    );
  });

  const header = {
    x64: '/usr/include/x86_64-linux-gnu/asm/unistd_64.h',
    arm64: '/usr/include/asm-generic/unistd.h',
  }[arch];
  test("the numbers are those of the kernel's headers", (context) => {
    if (!existsSync(header)) context.skip(`no \`${header}\` on this host`);
    const text = readFileSync(header, 'utf8');
    const numbers = new Map<string, number>();
    for (const [, name = '', number] of text.matchAll(/#define __NR(?:3264)?_(\w+)\s+(\d+)/g)) {
      numbers.set(name, Number(number));
    }
    for (const name of SYSCALLS) {
      const written = syscallNumber(arch, name);
      // The installed headers may be older than the newest calls.
      if (written === undefined) expect(numbers.has(name), name).toBe(false);
      else if (numbers.has(name)) expect([name, numbers.get(name)]).toEqual([name, written]);
    }
  });
});

/** The policy in plain words, apart from the program. */
function policy(arch: Arch, nr: number, wide: readonly bigint[]): number {
  const args = wide.map((value) => Number(BigInt.asUintN(32, value)));
  const [a0 = 0, a1 = 0, a2 = 0, a3 = 0] = args;
  const name = SYSCALLS.find((candidate) => syscallNumber(arch, candidate) === nr);
  const setId = (mode: number) => ((mode & 0o6000) !== 0 ? refuse(EPERM) : ALLOW);
  const creates = (flags: number) => (flags & 0x400040) !== 0;
  if (name === undefined) return ALLOW;
  if (DENIED.includes(name)) return refuse(EPERM);
  switch (name) {
    case 'clone3':
    case 'openat2':
      return refuse(ENOSYS);
    case 'clone':
      return CLONE_NEW.some((flag) => (a0 & flag) !== 0) ? refuse(EPERM) : ALLOW;
    case 'unshare':
      return [...CLONE_NEW, 0x80].some((flag) => (a0 & flag) !== 0) ? refuse(EPERM) : ALLOW;
    case 'socketpair':
      return a0 === 1 ? ALLOW : refuse(EAFNOSUPPORT);
    case 'socket': {
      const type = a1 & 0xf;
      if (a0 === 1) return [1, 2, 5].includes(type) ? ALLOW : refuse(ESOCKTNOSUPPORT);
      if (a0 === 2 || a0 === 10) {
        if (type !== 1 && type !== 2) return refuse(ESOCKTNOSUPPORT);
        return [0, 6, 17].includes(a2) ? ALLOW : refuse(EPROTONOSUPPORT);
      }
      if (a0 !== 16) return refuse(EAFNOSUPPORT);
      if (type !== 2 && type !== 3) return refuse(ESOCKTNOSUPPORT);
      return a2 === 0 ? ALLOW : refuse(EAFNOSUPPORT);
    }
    case 'ioctl':
      return [0x5412, 0x541c, 0x5423].includes(a1) ? refuse(EPERM) : ALLOW;
    case 'personality':
      return a0 === 0 || a0 === 0xffffffff ? ALLOW : refuse(EPERM);
    case 'chmod':
    case 'fchmod':
    case 'creat':
      return setId(a1);
    case 'fchmodat':
    case 'fchmodat2':
      return setId(a2);
    case 'open':
      return creates(a1) ? setId(a2) : ALLOW;
    case 'openat':
      return creates(a2) ? setId(a3) : ALLOW;
    case 'mknod':
    case 'mknodat': {
      const mode = name === 'mknod' ? a1 : a2;
      const plain = [0, 0o100000, 0o010000].includes(mode & 0o170000);
      return plain ? setId(mode) : refuse(EPERM);
    }
    default:
      return ALLOW;
  }
}
