import fc from 'fast-check';
import { expect } from 'vitest';
import { canonical, type Json } from '../../../src/core/canonical.ts';
import { verifies } from '../../verifies.ts';

verifies('core.canonical', 'the example of RFC 8785 section 3.2.2 has its canonical form', () => {
  const value = {
    numbers: [Number('333333333.33333329'), 1e30, 4.5, 2e-3, 1e-27],
    string: '€$\u000f\nA\'B"\\\\"/',
    literals: [null, true, false],
  };
  expect(canonical(value)).toBe(
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
      '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  );
});

verifies(
  'core.canonical',
  'members are sorted by UTF-16 code units, as section 3.2.3 shows',
  () => {
    const keys = ['\u20ac', '\r', '\ufb33', '1', '\u{1f600}', '\u0080', '\u00f6'];
    const value = Object.fromEntries(keys.map((key) => [key, key]));
    expect(Object.keys(JSON.parse(canonical(value)))).toHaveLength(7);
    const order = [...canonical(value).matchAll(/"([^"]+)":/gu)].map(([, key]) =>
      JSON.parse(`"${key}"`),
    );
    expect(order).toEqual(['\r', '1', '\u0080', '\u00f6', '\u20ac', '\u{1f600}', '\ufb33']);
  },
);

verifies(
  'core.canonical',
  'any JSON value reads back equal, and the order of members is immaterial',
  () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = canonical(value as Json);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
        expect(canonical(JSON.parse(text))).toBe(text);
      }),
    );
  },
);

verifies('core.canonical', 'what I-JSON cannot hold is refused', () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, '\ud800', { '\udc00': 1 }]) {
    expect(() => canonical(bad as Json)).toThrow(TypeError);
  }
});
