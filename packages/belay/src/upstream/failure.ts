// From whatever went wrong on the way to an upstream to one stable code and one clear reason. An
// error made here carries its Failed value as the cause, so that it survives the HTTP client.

import { BelayError, type ErrorCode, reasonOf } from '../core/errors.ts';
import { type Failed, failed } from './request.ts';

const ERROR_OF: Readonly<Record<Failed['code'], ErrorCode>> = {
  'address.refused': 'ERR_ADDRESS',
  'address.unresolved': 'ERR_ADDRESS',
  'upstream.unreachable': 'ERR_UPSTREAM',
  'upstream.tls': 'ERR_UPSTREAM_TLS',
  'upstream.broken': 'ERR_UPSTREAM',
  stopped: 'ERR_STOPPED',
};

export function failure(code: Failed['code'], reason: string): BelayError {
  return errorOf(failed(code, reason));
}

export function errorOf(value: Failed): BelayError {
  return new BelayError(ERROR_OF[value.code], value.reason, { cause: value });
}

/** `sent`: the request may have reached the upstream. */
export function failedBy(error: unknown, sent: boolean, host: string): Failed {
  if (error instanceof BelayError) {
    if (isFailed(error.cause)) return error.cause;
    // The request's body broke off on our side: a stop, a cap, or the client left.
    const code = error.code === 'ERR_STOPPED' ? 'stopped' : 'upstream.broken';
    return failed(code, error.message);
  }
  const why = wordsFor(error);
  return sent
    ? failed('upstream.broken', `\`${host}\` broke off: ${why}`)
    : failed('upstream.unreachable', `\`${host}\` cannot be reached: ${why}`);
}

function isFailed(cause: unknown): cause is Failed {
  return typeof cause === 'object' && cause !== null && 'kind' in cause && cause.kind === 'failed';
}

export function codeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('code' in error)) return '';
  return typeof error.code === 'string' ? error.code : '';
}

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EPIPE: 'connection reset',
  ETIMEDOUT: 'connection timed out',
  EHOSTUNREACH: 'no route to it',
  ENETUNREACH: 'no route to it',
  ENOTFOUND: 'no such name',
  ENODATA: 'the name has no address',
  EAI_AGAIN: 'the resolver does not answer',
  UND_ERR_HEADERS_TIMEOUT: 'no answer in time',
  UND_ERR_BODY_TIMEOUT: 'the answer stalled',
  UND_ERR_SOCKET: 'it closed the connection',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'the answer is shorter or longer than it said',
  UND_ERR_HEADERS_OVERFLOW: 'the head of the answer is too large',
};

/** A short reason; addresses and options that a system error carries are left out. */
export function wordsFor(error: unknown): string {
  const code = codeOf(error);
  return WORDS[code] ?? (code.startsWith('HPE_') ? 'the answer is not HTTP/1.1' : reasonOf(error));
}
