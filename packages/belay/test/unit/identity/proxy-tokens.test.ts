// Tokens of the explicit proxy: what they are bound to, beyond what one daemon's proxy can show.

import { expect } from 'vitest';
import { newRunId } from '../../../src/core/ids.ts';
import { createProxyTokens } from '../../../src/identity/proxy-tokens.ts';
import { verifies } from '../../verifies.ts';

const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const HOUR_MS = 3_600_000;

verifies(
  'identity.stolen-token',
  'a token is good at its listener, for its run and half a day',
  () => {
    let now = 0;
    const tokens = createProxyTokens(random, () => now);
    const [run, other] = [newRunId(random), newRunId(random)];
    const listener = '127.0.0.1:4000';
    const token = tokens.issue(run, listener);
    const second = tokens.issue(other, listener);
    expect(token).toMatch(/^[\w-]{43}$/);
    expect(tokens.check(listener, run, token)).toBe(run);
    expect(tokens.check('127.0.0.1:4001', run, token)).toBeNull();
    expect(tokens.check(listener, other, token)).toBeNull();
    expect(tokens.check(listener, run, second)).toBeNull();
    expect(tokens.check(listener, 'nobody', token)).toBeNull();
    // Another one for the same run makes the first void.
    const renewed = tokens.issue(run, listener);
    expect(tokens.check(listener, run, token)).toBeNull();
    now = 12 * HOUR_MS - 1;
    expect(tokens.check(listener, run, renewed)).toBe(run);
    now += 1;
    expect(tokens.check(listener, run, renewed)).toBeNull();
    tokens.revoke(other);
    now = 0;
    expect(tokens.check(listener, other, second)).toBeNull();
  },
);
