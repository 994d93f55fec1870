// Sizes as people write them. Decimal units are powers of 1000, binary ones (KiB) of 1024.

const FACTORS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** `100MB`, `1.5 GiB` or `4096` in bytes; undefined for anything else, or past 2^53. */
export function parseSize(text: string): number | undefined {
  const parts = /^(\d{1,15}(?:\.\d{1,6})?) ?([a-z]{1,3})?$/i.exec(text.trim());
  if (parts === null) return undefined;
  const factor = FACTORS[(parts[2] ?? 'b').toLowerCase()];
  if (factor === undefined) return undefined;
  const bytes = Number(parts[1]) * factor;
  // A fraction of a byte is rounded down: a cap is never wider than what was written.
  const whole = Math.floor(bytes);
  return Number.isSafeInteger(whole) ? whole : undefined;
}
