// An agent that was started and that its launcher can end, wherever it runs.

import type { SandboxEnd } from '../sandbox/start.ts';

export interface Contained extends AsyncDisposable {
  /** Lets the command start; once. */
  open(): void;
  readonly ended: Promise<SandboxEnd>;
  /** Resolves when no process of the run is left, as far as the containment can know. */
  kill(): Promise<void>;
}
