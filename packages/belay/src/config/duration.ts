// Lengths of time as people write them.

const FACTORS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90s`, `30m`, `2h` or `7d` in milliseconds; undefined for anything else, nothing among them. */
export function parseDuration(text: string): number | undefined {
  const parts = /^(\d{1,9})([smhd])$/.exec(text.trim());
  if (parts === null) return undefined;
  const durationMs = Number(parts[1]) * (FACTORS[parts[2] as string] as number);
  return durationMs > 0 ? durationMs : undefined;
}
