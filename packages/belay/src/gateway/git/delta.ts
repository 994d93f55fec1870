// A delta of a pack on its base (gitformat-pack, "Deltified representation"): instructions that copy
// a part of the base or carry bytes of their own.

/** Undefined when the delta does not fit its base, or makes more than `mostBytes`. */
export function applyDelta(base: Buffer, delta: Buffer, mostBytes: number): Buffer | undefined {
  const baseSize = sizeAt(delta, 0);
  if (baseSize === undefined || baseSize.value !== base.length) return undefined;
  const size = sizeAt(delta, baseSize.end);
  if (size === undefined || size.value > mostBytes) return undefined;
  const result = Buffer.alloc(size.value);
  let to = 0;
  for (let at = size.end; at < delta.length; ) {
    const op = delta[at++] as number;
    let source = delta;
    let from = at;
    let count = op;
    if (op & 0x80) {
      source = base;
      from = 0;
      count = 0;
      for (let i = 0; i < 4; i++) if (op & (1 << i)) from += (delta[at++] ?? 0) * 256 ** i;
      for (let i = 0; i < 3; i++) if (op & (16 << i)) count += (delta[at++] ?? 0) * 256 ** i;
      if (count === 0) count = 0x10000;
    } else {
      if (op === 0) return undefined;
      at += count;
    }
    if (from + count > source.length || to + count > result.length) return undefined;
    source.copy(result, to, from, from + count);
    to += count;
  }
  return to === result.length ? result : undefined;
}

function sizeAt(
  delta: Buffer,
  start: number,
): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  for (let at = start, scale = 1; scale < 2 ** 42; scale *= 128) {
    const byte = delta[at++];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * scale;
    if ((byte & 0x80) === 0) return { value, end: at };
  }
  return undefined;
}
