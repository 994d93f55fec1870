// Which bodies are read for a kind of grant, and that none is read twice.

import { expect } from 'vitest';
import type { Call } from '../../../src/core/call.ts';
import { asksForToken } from '../../../src/vault/tokens.ts';
import { verifies } from '../../verifies.ts';

function posted(type: string | undefined, text: string): Call {
  const call: Pick<Call, 'kind' | 'method' | 'path' | 'query' | 'headers' | 'body'> = {
    ...{ kind: 'http', method: 'POST', path: '/anything', query: '' },
    headers: type === undefined ? [] : [['content-type', type]],
    body: { kind: 'buffered', bytes: Buffer.from(text), sha256: '' },
  };
  return call as Call;
}

const ESCAPED = 'a=b&gr%61nt_type=password';

verifies(
  'vault.undeclared-token',
  'a grant in the escapes of a form is seen in every type that could be a form',
  () => {
    for (const type of [
      undefined,
      '',
      'nonsense',
      'text/plain',
      'application/x-www-form-urlencoded; charset=utf-8',
    ]) {
      expect(asksForToken(posted(type, ESCAPED)), type).toBe(true);
    }
    expect(asksForToken(posted('application/octet-stream', ESCAPED))).toBe(false);
    // Written out it is seen in any.
    const plain = 'grant_type=password';
    expect(asksForToken(posted('application/octet-stream', plain))).toBe(true);
    const json = '\ufeff{"n":"\u00e9\u2028","gr\\u0061nt_type":"x"}';
    expect(asksForToken(posted('application/json', json))).toBe(true);
  },
);

verifies('vault.canary-cost', 'a body is read once for a kind of grant', () => {
  const call = posted('text/plain', ESCAPED);
  let reads = 0;
  const counted: Call = Object.defineProperty({ ...call }, 'body', {
    get() {
      reads += 1;
      return call.body;
    },
  });
  expect([asksForToken(counted), asksForToken(counted)]).toEqual([true, true]);
  expect(reads).toBe(1);
});
