// The exit codes of the command line. A wrapped command's own status passes through.

import type { ErrorCode } from './errors.ts';

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  denied: 3,
  budget: 4,
  stopped: 5,
  ledger: 6,
  unsuitable: 69,
} as const;

/** The exit code for an error that ends a command. */
export function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'ERR_USAGE':
    case 'ERR_CONFIG':
    case 'ERR_SECRET':
    case 'ERR_NOT_FOUND':
      return EXIT.usage;
    case 'ERR_STOPPED':
      return EXIT.stopped;
    case 'ERR_LEDGER_DAMAGED':
      return EXIT.ledger;
    case 'ERR_HOST':
    case 'ERR_HOME':
    case 'ERR_LOCKED':
    case 'ERR_DAEMON':
    case 'ERR_STATE_NEWER':
    case 'ERR_SANDBOX':
    case 'ERR_GUARD':
      return EXIT.unsuitable;
    case 'ERR_LEDGER':
    case 'ERR_UPSTREAM':
    case 'ERR_UPSTREAM_TLS':
    case 'ERR_ADDRESS':
    case 'ERR_ABORTED':
    case 'ERR_PROTOCOL':
      return EXIT.failed;
  }
}
