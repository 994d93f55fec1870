// Every failure that Belay reports has a stable code from one closed union, a message that says
// what was refused and why, and, where there is a remedy, a hint. Code branches on `code`, never
// on text. A denial by policy, budget or stop is no error but a verdict (see verdict.ts).

export type ErrorCode =
  | 'ERR_USAGE' // the command line or an argument is wrong
  | 'ERR_CONFIG' // belay.jsonc or a policy file is wrong
  | 'ERR_SECRET' // a referenced secret cannot be read
  | 'ERR_HOST' // this host lacks something that Belay needs
  | 'ERR_HOME' // $BELAY_HOME cannot be used
  | 'ERR_LOCKED' // another daemon owns this home
  | 'ERR_DAEMON' // the daemon cannot be reached or does not answer
  | 'ERR_LEDGER' // the ledger cannot be written; nothing may happen any more
  | 'ERR_LEDGER_DAMAGED' // the ledger on disk does not verify
  | 'ERR_STATE_NEWER' // state on disk was written by a newer Belay
  | 'ERR_NOT_FOUND' // no such run, agent, environment or preset
  | 'ERR_UPSTREAM' // the upstream could not be reached or broke off
  | 'ERR_UPSTREAM_TLS' // the upstream's certificate does not verify
  | 'ERR_ADDRESS' // the name does not resolve, or only to refused addresses
  | 'ERR_SANDBOX' // the sandbox could not be built or ended on its own
  | 'ERR_GUARD' // the guard is gone or did not acknowledge
  | 'ERR_STOPPED' // a stop ended the run
  | 'ERR_ABORTED' // the client went away
  | 'ERR_PROTOCOL'; // a peer sent something that is not in the protocol

export interface ErrorOptions {
  readonly hint?: string;
  readonly cause?: unknown;
}

/** The one error class. `message` is lower case without a final period; `hint` says what to do. */
export class BelayError extends Error {
  override readonly name = 'BelayError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : {});
    this.code = code;
    this.hint = options.hint;
  }
}

/** What went wrong, as one line, whatever was thrown. */
export function reasonOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message;
  return String(thrown);
}

/** Wraps anything thrown as a BelayError, keeping one that already is. */
export function asBelayError(code: ErrorCode, doing: string, thrown: unknown): BelayError {
  if (thrown instanceof BelayError) return thrown;
  return new BelayError(code, `${doing}: ${reasonOf(thrown)}`, { cause: thrown });
}

/** The compiler refuses a switch that forgets a case; at run time this is the last line. */
export function unreachable(value: never): never {
  throw new TypeError(`unexpected value ${JSON.stringify(value)}`);
}
