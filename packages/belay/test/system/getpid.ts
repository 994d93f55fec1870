// Static programs for x86_64, written byte by byte: each asks for its pid by another door of the
// kernel, and ends with 0 if it got one and with 1 if it got an error.

const BASE = 0x400000n;
const HEADER_BYTES = 120;

// xor edi,edi; test eax,eax; setle dil; mov eax,60; syscall
const EXIT = [0x31, 0xff, 0x85, 0xc0, 0x40, 0x0f, 0x9e, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];

export const GETPID: Readonly<Record<'own' | 'int80' | 'x32', Buffer>> = {
  own: elf([0xb8, 39, 0, 0, 0, 0x0f, 0x05, ...EXIT]),
  int80: elf([0xb8, 20, 0, 0, 0, 0xcd, 0x80, ...EXIT]),
  x32: elf([0xb8, 39, 0, 0, 0x40, 0x0f, 0x05, ...EXIT]),
};

/** An executable of one segment, which starts with its code. */
function elf(code: readonly number[]): Buffer {
  const sizeBytes = HEADER_BYTES + code.length;
  const bytes = Buffer.alloc(sizeBytes);
  bytes.write('\x7fELF\x02\x01\x01', 'latin1');
  bytes.writeUInt16LE(2, 16); // ET_EXEC
  bytes.writeUInt16LE(62, 18); // EM_X86_64
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(BASE + BigInt(HEADER_BYTES), 24); // the entry
  bytes.writeBigUInt64LE(64n, 32); // where the program header is
  bytes.writeUInt16LE(64, 52);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(1, 56);
  bytes.writeUInt32LE(1, 64); // PT_LOAD
  bytes.writeUInt32LE(5, 68); // readable and executable
  bytes.writeBigUInt64LE(BASE, 80);
  bytes.writeBigUInt64LE(BASE, 88);
  bytes.writeBigUInt64LE(BigInt(sizeBytes), 96);
  bytes.writeBigUInt64LE(BigInt(sizeBytes), 104);
  bytes.writeBigUInt64LE(0x1000n, 112);
  bytes.set(code, HEADER_BYTES);
  return bytes;
}
