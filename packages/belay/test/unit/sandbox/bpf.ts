// An interpreter for the classic BPF that seccomp accepts, written from the kernel's description, so
// that a filter can be judged without a kernel. Throws on anything that the verifier would refuse.

import type { Instruction } from '../../../src/sandbox/seccomp.ts';

export interface SyscallData {
  readonly nr: number;
  readonly arch: number;
  /** Six arguments of 64 bits. */
  readonly args: readonly bigint[];
}

/** struct seccomp_data, little-endian. */
export function seccompData({ nr, arch, args }: SyscallData): Buffer {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(nr >>> 0, 0);
  data.writeUInt32LE(arch >>> 0, 4);
  for (let i = 0; i < 6; i++) {
    data.writeBigUInt64LE(BigInt.asUintN(64, args[i] ?? 0n), 16 + 8 * i);
  }
  return data;
}

/** The filter's answer for one call. */
export function runFilter(program: readonly Instruction[], data: Buffer): number {
  let accumulator = 0;
  for (let pc = 0; pc < program.length; pc++) {
    const [code, jt, jf, k] = program[pc] as Instruction;
    const jump = (holds: boolean): void => {
      pc += holds ? jt : jf;
    };
    switch (code) {
      case 0x20:
        if (k % 4 !== 0 || k > 60) throw new RangeError(`load at ${k}`);
        accumulator = data.readUInt32LE(k);
        break;
      case 0x54:
        accumulator = (accumulator & k) >>> 0;
        break;
      case 0x15:
        jump(accumulator === k);
        break;
      case 0x35:
        jump(accumulator >= k);
        break;
      case 0x45:
        jump((accumulator & k) !== 0);
        break;
      case 0x06:
        return k;
      default:
        throw new RangeError(`instruction ${code}`);
    }
  }
  throw new RangeError('ran off the end');
}

/** What the kernel's verifier asks: every jump lands inside, and the last instruction returns. */
export function assertLoadable(program: readonly Instruction[]): void {
  if (program.length === 0 || program.length > 4096) throw new RangeError('length');
  program.forEach(([code, jt, jf, k], i) => {
    for (const value of [jt, jf]) if (value > 255) throw new RangeError(`far jump at ${i}`);
    if (i + 1 + Math.max(jt, jf) >= program.length && code !== 0x06) {
      throw new RangeError(`jump out at ${i}`);
    }
    if (k < 0 || k > 0xffffffff) throw new RangeError(`constant at ${i}`);
  });
  if (program.at(-1)?.[0] !== 0x06) throw new RangeError('no return at the end');
}
