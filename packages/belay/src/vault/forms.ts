// The forms in which servers echo a value, each as the bytes to look for: as it is, in JSON, in a URL or
// a form, in HTML, in hexadecimal, in base64 at any offset. Writers of one encoding do not agree on what
// they write in escapes; those in use are here, from the least careful to the most.

import type { Needle } from './automaton.ts';
import { SHORTEST } from './search.ts';

/** None for a value that is too short: it would be found in everything. */
export function needlesOf(name: string, value: string): readonly Needle[] {
  const raw = Buffer.from(value);
  if (raw.length < SHORTEST) return [];
  const hex = raw.toString('hex');
  const inJson = jsonForms(value);
  const inBase64 = [0, 1, 2].map((offset) => base64At(raw, offset));
  const forms = new Set([
    ...[value, hex, hex.toUpperCase()],
    ...inJson,
    ...urlForms(value),
    // A page may show JSON.
    ...[value, ...inJson.slice(0, 1)].flatMap(htmlForms),
    ...inBase64.flatMap((text) => [text, text.replaceAll('+', '-').replaceAll('/', '_')]),
  ]);
  return [...forms].map((form) => ({ name, bytes: Buffer.from(form) }));
}

/** Beside what JSON demands: of Go and Rails, Gson, PHP, .NET. */
const MORE_IN_JSON = [/[&<>]/g, /[&<>='`]/g, /[&<>'"]/g, /[&<>'"+`]/g] as const;

function jsonForms(value: string): readonly string[] {
  const least = JSON.stringify(value).slice(1, -1);
  const escaped = MORE_IN_JSON.map((more) => {
    // In place of its short escape.
    const text = least.replaceAll('\\"', '"').replace(more, unicode);
    return text.replaceAll('"', '\\"');
  });
  const all = [least, ...escaped].flatMap((text) => [text, text.replace(/[^ -~]/g, unicode)]);
  return all
    .flatMap((text) => [text, text.replaceAll('/', '\\/')])
    .flatMap((text) => [
      text,
      text.replace(/\\u..../g, (one) => `\\u${one.slice(2).toUpperCase()}`),
    ]);
}

/** Of one UTF-16 unit. */
function unicode(text: string): string {
  return `\\u${text.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** What is written in escapes: by `encodeURI`, `encodeURIComponent`, in paths, by RFC 3986, Python, forms. */
const ESCAPED_IN_URLS = [
  /[^\w.~!*'();/?:@&=+$,#-]/gu,
  /[^\w.~!*'()-]/gu,
  /[^\w.~!*'()$&+,;=:@-]/gu,
  /[^\w.~$&+=:@-]/gu,
  /[^\w.~-]/gu,
  /[^\w.~/-]/gu,
  /[^\w.*-]/gu,
  /[^\w.-]/gu,
] as const;

function urlForms(value: string): readonly string[] {
  return ESCAPED_IN_URLS.map((escaped) => value.replace(escaped, percent))
    .flatMap((text) => [text, text.replaceAll('%20', '+')])
    .flatMap((text) => [text, text.replace(/%../g, (one) => one.toLowerCase())]);
}

function percent(text: string): string {
  return Buffer.from(text).toString('hex').toUpperCase().replace(/../g, '%$&');
}

/** For `"`, `'` and others: of text, XML, PHP, Python, Go and Jinja, Handlebars. */
const IN_HTML: readonly Readonly<Record<string, string>>[] = [
  {},
  { '"': '&quot;' },
  { '"': '&quot;', "'": '&apos;' },
  { '"': '&quot;', "'": '&#39;' },
  { '"': '&quot;', "'": '&#039;' },
  { '"': '&quot;', "'": '&#x27;' },
  { '"': '&quot;', "'": '&#x27;', '/': '&#x2F;' },
  { '"': '&#34;', "'": '&#39;' },
  { '"': '&#34;', "'": '&#39;', '+': '&#43;' },
  { '"': '&quot;', "'": '&#x27;', '=': '&#x3D;', '`': '&#x60;' },
];
const IN_ALL_HTML: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

function htmlForms(value: string): readonly string[] {
  return IN_HTML.map((more) =>
    value.replace(/[&<>"'/+=`]/g, (one) => IN_ALL_HTML[one] ?? more[one] ?? one),
  );
}

/** The part of it that its neighbours have no say in, after `offset` bytes of a group of three. */
function base64At(raw: Buffer, offset: number): string {
  const before = Math.ceil((offset * 8) / 6);
  const whole = Math.floor(((offset + raw.length) * 8) / 6);
  const text = Buffer.concat([Buffer.alloc(offset), raw]).toString('base64');
  return text.slice(before, whole);
}
