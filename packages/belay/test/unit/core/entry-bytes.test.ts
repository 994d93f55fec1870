import fc from 'fast-check';
import { expect } from 'vitest';
import { canonical, type Json } from '../../../src/core/canonical.ts';
import type { Entry } from '../../../src/core/entry.ts';
import { encodeEntry, isCanonical } from '../../../src/core/entry-bytes.ts';
import { verifies } from '../../verifies.ts';

/** Texts as agents send them, and what only looks like the mark of a value that JSON cannot hold. */
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('null', '\\ud800', '"null"', '/a\u2028b', '\u{1f600}'),
);
const count = fc.nat();
const texts = fc.array(text, { maxLength: 3 });
const place = { v: fc.constant(1), id: text, index: count, ts: count, seq: count, run: text };

const intent = fc.record(
  {
    ...place,
    type: fc.constant('intent'),
    call: text,
    kind: text,
    agent: text,
    env: text,
    mode: text,
    method: text,
    scheme: text,
    host: text,
    port: count,
    path: text,
    queryKeys: texts,
    effect: text,
    reasons: texts,
    body: fc.record({ kind: text, sizeBytes: count, sha256: text }, { requiredKeys: ['kind'] }),
    retryOf: text,
    policies: texts,
    credentials: texts,
    reserved: fc.record({ calls: count, bytes: count }),
  },
  { requiredKeys: ['type', 'body', 'reserved', 'credentials', 'policies', 'reasons'] },
);

const outcome = fc.record(
  {
    ...place,
    type: fc.constant('outcome'),
    call: text,
    status: count,
    error: fc.record({ code: text, reason: text }),
    sentBytes: count,
    sentSha256: text,
    receivedBytes: count,
    receivedSha256: text,
    redacted: fc.array(text),
    durationMs: fc.oneof(count, fc.double({ noNaN: true, noDefaultInfinity: true })),
  },
  { requiredKeys: ['type'] },
);

verifies('core.canonical', 'an intent and an outcome are written as RFC 8785 has them', () => {
  fc.assert(
    fc.property(fc.oneof(intent, outcome), (value) => {
      const entry = value as unknown as Entry;
      const bytes = encodeEntry(entry);
      expect(new TextDecoder().decode(bytes)).toBe(canonical(value as unknown as Json));
      expect(isCanonical(bytes, entry)).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

verifies('core.canonical', 'an entry that I-JSON cannot hold is refused', () => {
  const good = { ...fc.sample(outcome, { numRuns: 1, seed: 1 })[0], call: 'c' };
  for (const bad of [
    { ...good, call: 'a lone \ud800' },
    { ...good, call: 'a lone \udfff' },
    { ...good, durationMs: Number.NaN },
    { ...good, receivedBytes: Number.POSITIVE_INFINITY },
    { ...good, error: { code: '\udc00', reason: '' } },
  ]) {
    expect(() => encodeEntry(bad as unknown as Entry)).toThrow(TypeError);
  }
});
