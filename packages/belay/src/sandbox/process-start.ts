// Tells one process from a later one with the same id, by its start time in clock ticks since boot,
// and one that goes on from one that is ending.

import { readFileSync } from 'node:fs';

/** PF_EXITING of the kernel's task flags. */
const EXITING = 0x4;

/** Undefined when there is no such process, or only its unreaped rest. */
export function processStart(pid: number): string | undefined {
  const [state, ...fields] = statFields(pid);
  return state === 'Z' || state === 'X' ? undefined : fields[18];
}

/** Whether a process is on its way out: it never runs a program's instruction again. */
export function isExiting(pid: number): boolean {
  return (Number(statFields(pid)[6]) & EXITING) !== 0;
}

/** proc(5): the fields of `stat` from the third on; none when there is no such process. */
function statFields(pid: number): readonly string[] {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return []; // no such process
  }
  // The second field is the name in parentheses, which may hold anything.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
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
