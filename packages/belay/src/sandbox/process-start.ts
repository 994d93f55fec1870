// Tells one process from a later one with the same id: its start time in clock ticks since boot.

import { readFileSync } from 'node:fs';

/** Undefined when there is no such process, or only its unreaped rest. */
export function processStart(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined; // no such process
  }
  // proc(5): the second field is the name in parentheses, which may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/** Resolves to whether the process is gone within `timeoutMs`. */
export async function processGone(
  pid: number,
  start: string | undefined,
  timeoutMs: number,
): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    if (start === undefined || processStart(pid) !== start) return true;
    if (performance.now() > until) return false;
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}
