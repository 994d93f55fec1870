// The signals that end a launcher, from its first moment on: nothing that was begun is left behind.

import { BelayError } from '../core/errors.ts';

export interface CaughtSignals extends AsyncDisposable {
  status(): number | undefined;
  throwIfCaught(): void;
  /** Resolves with 128+n at the next signal that ends the run. */
  next(leaveInterrupt: boolean): Promise<number>;
}

/** On a terminal Ctrl-C goes to the agent itself; otherwise, and for SIGTERM and SIGHUP, it ends us. */
export function catchSignals(): CaughtSignals {
  const numbers = { SIGINT: 2, SIGHUP: 1, SIGTERM: 15 } as const;
  let caught: number | undefined;
  let leaving = false;
  let wake: (status: number) => void = () => {};
  const on = (signal: NodeJS.Signals): void => {
    if (signal === 'SIGINT' && leaving) return;
    caught = 128 + numbers[signal as keyof typeof numbers];
    wake(caught);
  };
  for (const signal of Object.keys(numbers)) process.on(signal, on);
  return {
    status: () => caught,
    throwIfCaught() {
      if (caught !== undefined) throw new BelayError('ERR_ABORTED', 'interrupted');
    },
    next(leaveInterrupt) {
      leaving = leaveInterrupt;
      if (caught !== undefined) return Promise.resolve(caught);
      return new Promise((resolve) => (wake = resolve));
    },
    async [Symbol.asyncDispose]() {
      for (const signal of Object.keys(numbers)) process.off(signal, on);
    },
  };
}
