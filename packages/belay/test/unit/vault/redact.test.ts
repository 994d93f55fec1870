// The redactor against a model that looks at each needle in the whole text by itself.

import fc from 'fast-check';
import { expect } from 'vitest';
import type { ByteSink } from '../../../src/core/call.ts';
import type { Needle } from '../../../src/vault/automaton.ts';
import { createRedactor } from '../../../src/vault/redact.ts';
import { createSearch } from '../../../src/vault/search.ts';
import { verifies } from '../../verifies.ts';

const needlesOf = (texts: readonly string[]): Needle[] =>
  texts.map((text) => ({ name: `of ${text}`, bytes: Buffer.from(text, 'latin1') }));

/** What has gone on after each part, and after the end. */
function shown(
  parts: readonly string[],
  search: ReturnType<typeof createSearch>,
  before: (part: number) => void = () => {},
): readonly string[] {
  let out = '';
  const after: string[] = [];
  const flow = (sink: ByteSink) => {
    for (const [i, part] of parts.entries()) {
      before(i);
      sink.write(Buffer.from(part, 'latin1'));
      after.push(out);
    }
    sink.end();
    return { resume() {}, abort() {} };
  };
  createRedactor(search)
    .body({ flow })
    .flow({
      write: (chunk) => {
        out += Buffer.from(chunk).toString('latin1');
        return true;
      },
      end() {},
      fail: (error) => expect.unreachable(error.message),
    });
  return [...after, out];
}

function model(text: string, needles: readonly string[]): string {
  const stars = [...text];
  for (const needle of needles) {
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + 1)) {
      stars.fill('*', at, at + needle.length);
    }
  }
  return stars.join('');
}

function waiting(text: string, needles: readonly string[]): number {
  for (let begin = 0; begin < text.length; begin++) {
    const tail = text.slice(begin);
    if (needles.some((needle) => needle.length > tail.length && needle.startsWith(tail))) {
      return tail.length;
    }
  }
  return 0;
}

const letters = fc.constantFrom('a', 'b');
const value = fc.string({ unit: letters, minLength: 8, maxLength: 12 });
/** Nearly values, for the most part. */
const textOf = (values: readonly string[]) =>
  fc
    .array(
      fc.oneof(
        fc.constantFrom(...values),
        fc.constantFrom(...values.map((one) => one.slice(0, -1))),
        fc.string({ unit: fc.constantFrom('a', 'b', '-', '\u00ff'), maxLength: 6 }),
      ),
      { maxLength: 8 },
    )
    .map((texts) => texts.join(''));
const cut = (text: string, at: readonly number[]): string[] => {
  const cuts = [...new Set(at.map((one) => one % (text.length + 1)))].sort((a, b) => a - b);
  return [...cuts, text.length].map((end, i) => text.slice(i === 0 ? 0 : cuts[i - 1], end));
};
const stories = fc
  .array(value, { minLength: 1, maxLength: 6 })
  .chain((values) =>
    fc.tuple(fc.constant(values), textOf(values), fc.array(fc.nat(200), { maxLength: 6 })),
  );

verifies(
  ['vault.canary-overlap', 'vault.canary-split'],
  'in any parts, each byte of any value is starred, no other is, and no more waits than has to',
  () => {
    fc.assert(
      fc.property(stories, ([values, text, cuts]) => {
        const search = createSearch();
        for (const needle of needlesOf(values)) search.add([needle]);
        const parts = cut(text, cuts);
        const outs = shown(parts, search);
        const whole = model(text, values);
        expect(outs.at(-1)).toBe(whole);
        let came = '';
        for (const [i, part] of parts.entries()) {
          came += part;
          expect(outs[i]).toBe(whole.slice(0, came.length - waiting(came, values)));
        }
      }),
      { numRuns: 3_000 },
    );
  },
  { timeoutMs: 30_000 },
);

verifies(
  ['vault.canary-overlap'],
  'with few and with many values, also in long texts: what is faster finds the same',
  () => {
    const random = (n: number) =>
      Array.from({ length: n }, (_, i) => `value-${i}-${(i * 7919) % 997}`);
    for (const many of [1, 3, 200]) {
      const values = random(many);
      const search = createSearch();
      for (const needle of needlesOf(values)) search.add([needle]);
      const long = `${'value'.repeat(3_000)}${values.join('x')}${'y'.repeat(9_000)}${values.at(-1)}`;
      for (const end of [0, 1, 5, 70]) {
        const text = long.slice(0, long.length - end);
        expect(shown([text], search).at(-1)).toBe(model(text, values));
        expect(shown(cut(text, [7_000, 15_003, 15_010]), search).at(-1)).toBe(model(text, values));
      }
    }
  },
);

verifies(
  ['vault.canary-split'],
  'a value that is added while an answer flows is found in what waits and in what follows',
  () => {
    const search = createSearch();
    search.add(needlesOf(['abcdefgh']));
    const outs = shown(['--abc', 'd1234567', '8 d12345678'], search, (part) => {
      if (part === 1) search.add(needlesOf(['bcd12345678', 'd12345678']));
    });
    expect(outs).toEqual(['--', '--a', '--a*********** *********', '--a*********** *********']);
    search.remove(new Set(['of d12345678']));
    expect(shown(['d12345678 bcd12345678'], search).at(-1)).toBe('d12345678 ***********');
  },
);
