// The body of a denial: short, and in words that its reader shows. Most read a small JSON object of
// ours, clients of models read their provider's, and git reads plain text.

import type { DenyCode, ModelDialect, Told } from '../../core/verdict.ts';

export interface DenialBody {
  readonly type: string;
  readonly body: Buffer;
}

const TYPE = 'belay_denied';

/** `asked`: the target of the request. */
export function denialBody(asked: string, code: DenyCode, told: Told): DenialBody {
  const { message, dialect } = told;
  // Git shows its user nothing else, and only of an answer to its first request.
  if (/\/info\/refs\?service=git-/.test(asked)) {
    return { type: 'text/plain; charset=utf-8', body: Buffer.from(`${message}\n`) };
  }
  const value =
    dialect === undefined ? { error: { type: TYPE, code, message } } : providers(dialect, told);
  return { type: 'application/json', body: Buffer.from(JSON.stringify(value)) };
}

/** An invalid request is what their clients do not repeat. */
function providers(dialect: ModelDialect, { status, message }: Told): unknown {
  switch (dialect) {
    case 'anthropic':
      return { type: 'error', error: { type: 'invalid_request_error', message } };
    case 'openai':
      return { error: { message, type: 'invalid_request_error', param: null, code: TYPE } };
    case 'google':
      return { error: { code: status, message, status: 'FAILED_PRECONDITION' } };
  }
}
