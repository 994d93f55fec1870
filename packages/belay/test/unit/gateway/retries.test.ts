import { expect, test } from 'vitest';
import type { CallBody } from '../../../src/core/call.ts';
import type { CallId } from '../../../src/core/ids.ts';
import { createRetries } from '../../../src/gateway/http/retries.ts';
import { target } from '../upstream/origin.ts';

const TO = target('https', 'api.example.com');
const NONE: CallBody = { kind: 'none' };
const id = (n: number): CallId => `call-${n}` as CallId;

test('a call repeats an equal one of the last ten minutes', () => {
  const retries = createRetries();
  expect(retries.note(id(1), 0, 'GET', TO, '/', NONE)).toBeUndefined();
  expect(retries.note(id(2), 600_000, 'GET', TO, '/', NONE)).toBe(id(1));
  expect(retries.note(id(3), 1_200_001, 'GET', TO, '/', NONE)).toBeUndefined();
  expect(retries.note(id(4), 1_200_002, 'HEAD', TO, '/', NONE)).toBeUndefined();
  const elsewhere = target('https', 'api.example.com', 8443);
  expect(retries.note(id(5), 1_200_002, 'GET', elsewhere, '/', NONE)).toBeUndefined();
});

test('the table is bounded and forgets the oldest', () => {
  const retries = createRetries();
  for (let i = 0; i < 1025; i++) retries.note(id(i), i, 'GET', TO, `/${i}${'x'.repeat(300)}`, NONE);
  expect(retries.note(id(2000), 2000, 'GET', TO, `/1${'x'.repeat(300)}`, NONE)).toBe(id(1));
  expect(retries.note(id(2001), 2000, 'GET', TO, `/0${'x'.repeat(300)}`, NONE)).toBeUndefined();
});
