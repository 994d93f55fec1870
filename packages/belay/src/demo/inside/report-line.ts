// What the scripted agent says about itself: one line of JSON for each act. It is the agent's own
// view and nothing more; the demo trusts the ledger where the ledger can know.

export interface ActLine {
  readonly kind: 'act';
  readonly act: string;
  readonly startedAtMs: number;
  readonly tookMs: number;
  /** `done`: the agent got what it wanted. */
  readonly result: 'done' | 'refused' | 'failed';
  readonly status?: number;
  readonly errno?: string;
  readonly detail: string;
}

export type AgentLine =
  | ActLine
  | { readonly kind: 'progress'; readonly act: string; readonly bytes: number }
  | { readonly kind: 'says'; readonly text: string };

export type Attempt = Pick<ActLine, 'result' | 'status' | 'errno' | 'detail'>;

export function emit(line: AgentLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Runs one act and reports it, whatever happens in it. */
export async function act(name: string, attempt: () => Promise<Attempt>): Promise<void> {
  const startedAtMs = Date.now();
  const clock = performance.now();
  const outcome = await attempt().catch(failed);
  const tookMs = Math.round((performance.now() - clock) * 10) / 10;
  emit({ kind: 'act', act: name, startedAtMs, tookMs, ...outcome });
}

/** What was thrown, as an attempt that failed; a kernel's refusal keeps its errno. */
export function failed(thrown: unknown): Attempt {
  const error = thrown as NodeJS.ErrnoException & { cause?: NodeJS.ErrnoException };
  const errno = error.code ?? error.cause?.code;
  const detail = error.cause?.message ?? error.message ?? String(thrown);
  return errno === undefined ? { result: 'failed', detail } : { result: 'failed', errno, detail };
}
