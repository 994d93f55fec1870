import { expect } from 'vitest';
import type { DemoResult } from '../../../src/demo/demo.ts';
import { judge } from '../../../src/demo/judge.ts';
import { reportHtml } from '../../../src/demo/report.ts';
import { tableText } from '../../../src/demo/table.ts';
import { verifies } from '../../verifies.ts';
import { goodDemo } from './observed.ts';

const HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>\u001b[8m\u202e"\'&';

function result(change: Partial<DemoResult> = {}): DemoResult {
  return {
    ok: true,
    rows: judge(goodDemo()),
    run: 'r-23456789',
    said: [],
    verified: { ok: true, line: 'sound: 20 entries in 1 segments' },
    arrivals: [],
    entries: 20,
    durationMs: 6000,
    ...change,
  };
}

const FACTS = {
  version: '0.1.0',
  node: 'v24.0.0',
  kernel: '6.1.0',
  madeAt: '2027-01-01T00:00:00.000Z',
};

verifies('demo.story', 'what an agent wrote is shown in the report and never obeyed', () => {
  const rows = judge(goodDemo()).map((row) => ({
    ...row,
    ...{ by: HOSTILE, evidence: HOSTILE, source: HOSTILE, control: HOSTILE, fault: HOSTILE },
  }));
  const verified = { ok: false, line: HOSTILE };
  const html = reportHtml(result({ rows, said: [HOSTILE], verified, arrivals: [HOSTILE] }), FACTS);
  expect(html).not.toMatch(/<script|<img/i);
  expect(html).toContain('&lt;script&gt;');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  expect(html).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
  // As text it is harmless; in a tag it would not be.
  const tags = html.match(/<[a-z][^>]*>/gi) ?? [];
  expect(tags.filter((tag) => /alert|onerror/.test(tag))).toEqual([]);
  expect(tags.length).toBeGreaterThan(100);
});

verifies('demo.story', 'the report fetches nothing and runs nothing', () => {
  const html = reportHtml(result(), FACTS);
  expect(html).not.toMatch(/\b(?:src|href|srcset|action)\s*=|@import|url\(|<link|<iframe|<form/i);
  expect(html).toContain("default-src 'none'");
  expect(html).toContain('prefers-color-scheme:dark');
});

verifies('demo.story', 'the report and the table say what was not stopped', () => {
  const rows = judge({ ...goodDemo(), arrivals: ['POST collector.example/upload'] });
  expect(reportHtml(result({ ok: false, rows }), FACTS)).toMatch(/<h1>Not held: 13 of 14 /);
  expect(reportHtml(result(), FACTS)).toMatch(/<h1>Held: 14 of 14 /);
  expect(tableText(rows)).toMatch(
    /^NOT STOPPED {2}uploads to a site that nobody listed +it arrived/m,
  );
});

verifies('demo.story', 'a terminal gets no control characters of an agent’s', () => {
  const rows = judge(goodDemo()).map((row) => ({ ...row, by: HOSTILE }));
  const text = tableText(rows);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202a-\u202e]/);
  expect(text).toContain('\\u{1b}[8m');
});
