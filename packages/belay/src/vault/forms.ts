// The forms in which servers echo a value, each as the bytes to look for: as it is, in JSON, in a URL, in
// hexadecimal, in base64 at any offset.

import type { Needle } from './automaton.ts';
import { SHORTEST } from './search.ts';

/** None for a value that is too short: it would be found in everything. */
export function needlesOf(name: string, value: string): readonly Needle[] {
  const raw = Buffer.from(value);
  if (raw.length < SHORTEST) return [];
  const inUrl = encodeURIComponent(value);
  const inJson = JSON.stringify(value).slice(1, -1);
  const hex = raw.toString('hex');
  const inBase64 = [0, 1, 2].map((offset) => base64At(raw, offset));
  const forms = new Set([
    ...[value, inJson, inJson.replaceAll('/', '\\/'), hex, hex.toUpperCase()],
    ...[inUrl, inUrl.replaceAll('%20', '+')].flatMap((text) => [text, lowerEscapes(text)]),
    ...inBase64.flatMap((text) => [text, text.replaceAll('+', '-').replaceAll('/', '_')]),
  ]);
  return [...forms].map((form) => ({ name, bytes: Buffer.from(form) }));
}

/** The part of it that its neighbours have no say in, after `offset` bytes of a group of three. */
function base64At(raw: Buffer, offset: number): string {
  const before = Math.ceil((offset * 8) / 6);
  const whole = Math.floor(((offset + raw.length) * 8) / 6);
  const text = Buffer.concat([Buffer.alloc(offset), raw]).toString('base64');
  return text.slice(before, whole);
}

function lowerEscapes(text: string): string {
  return text.replace(/%../g, (found) => found.toLowerCase());
}
