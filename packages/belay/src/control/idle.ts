// What the daemon does while no run is open: soon it gives back the memory that start and runs have
// left, which the engine by itself would keep, and one that was started for a command leaves later.

export interface Idle extends Disposable {
  /** A run is about to be open. */
  busy(): void;
  /** Perhaps none is open any more. */
  settle(): void;
}

export interface IdleParts {
  readonly openRuns: () => number;
  /** Absent: it stays. */
  readonly lingerMs?: number;
  /** Whether something would be lost; asked again after the same time. */
  readonly holds: () => boolean;
  readonly leave: () => void;
}

/** After a pause: runs that follow one another do not pay for it. */
const COLLECT_MS = 1_000;

export function watchIdle({ openRuns, lingerMs, holds, leave }: IdleParts): Idle {
  let collection: NodeJS.Timeout | undefined;
  let departure: NodeJS.Timeout | undefined;
  const busy = (): void => {
    clearTimeout(collection);
    clearTimeout(departure);
  };
  const depart = (): void => {
    if (holds()) departure = setTimeout(depart, lingerMs);
    else leave();
  };
  return {
    busy,
    settle() {
      busy();
      if (openRuns() > 0) return;
      collection = setTimeout(collect, COLLECT_MS);
      if (lingerMs !== undefined) departure = setTimeout(depart, lingerMs);
    },
    [Symbol.dispose]: busy,
  };
}

/** Takes tens of milliseconds, in which no call can come. */
function collect(): void {
  if (typeof gc === 'function') gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
