// Text of an agent's in what the commands print as JSON.

import fc from 'fast-check';
import { expect } from 'vitest';
import { jsonDocument, jsonLine } from '../../../src/cli/output.ts';
import { verifies } from '../../verifies.ts';

const OBEYED = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const HOSTILE = [
  ...[
    '\u009b31m',
    '\u0085',
    '\u202e',
    '\u2066',
    '\u200f',
    '\u200b',
    '\u2028',
    '\ufeff',
    '\u{e0041}',
  ],
  ...['\u0000', '\u007f', '\ud800', '"\\', '\\u009b', '\u{1f600}', '\n'],
];

verifies(
  'cli.inert',
  'a line of JSON holds nothing that a terminal obeys, and the same value',
  () => {
    const text = fc
      .array(fc.oneof(fc.constantFrom(...HOSTILE), fc.string()))
      .map((all) => all.join(''));
    fc.assert(
      fc.property(fc.dictionary(text, fc.oneof(text, fc.array(text))), (value) => {
        const line = jsonLine(value);
        expect(line.endsWith('\n')).toBe(true);
        expect(line.slice(0, -1)).not.toMatch(OBEYED);
        expect(JSON.parse(line)).toEqual(value);
      }),
    );
    expect(jsonDocument('x', { a: '\u009b\u{e0041}' })).toBe(
      '{"v":1,"kind":"x","a":"\\u009b\\udb40\\udc41"}\n',
    );
  },
);
