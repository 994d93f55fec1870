// Where in a call a credential stands: how its value is put in there, and where the placeholders of a
// call are. What is not exactly in its place is somewhere else.

import { bodyValue } from '../config/body.ts';
import type { CredentialPlace } from '../config/config.ts';
import type { Call, CallBody } from '../core/call.ts';

/** As control/placeholders.ts makes them. */
export const PLACEHOLDER = /blp-[A-Za-z0-9._-]{1,63}-[0-9a-f]{32}/g;
const MARK = 'blp-';
export const BODY = 'the body';

/** The header that a credential replaces. */
export function fieldOf(place: CredentialPlace): string | undefined {
  switch (place.kind) {
    case 'header':
      return place.name;
    case 'basic':
      return 'authorization';
    case 'query':
    case 'field':
      return undefined;
  }
}

export function fieldValue(
  place: Extract<CredentialPlace, { readonly kind: 'header' | 'basic' }>,
  value: string,
): string {
  if (place.kind === 'header') return place.format.replace('{}', () => value);
  return `Basic ${Buffer.from(`${place.user}:${value}`).toString('base64')}`;
}

/** The other pairs stay as they were written. */
export function withKey(query: string, key: string, value: string): string {
  const others = query.split('&').filter((pair) => {
    return pair !== '' && new URLSearchParams(pair).keys().next().value !== key;
  });
  return [...others, `${key}=${encodeURIComponent(value)}`].join('&');
}

/**
 * The body with a value in the place of the placeholder that is the whole of a field, and the rest as
 * it was written; undefined when the placeholder is elsewhere, twice, or in a body with two readings.
 */
export function withField(
  call: Call,
  key: string,
  placeholder: string,
  value: string,
): Extract<CallBody, { readonly kind: 'buffered' }> | undefined {
  const { body } = call;
  if (body.kind !== 'buffered') return undefined;
  const parts = asBuffer(body.bytes).toString('latin1').split(placeholder);
  const read = bodyValue(call);
  if (parts.length !== 2 || read.kind === 'unread') return undefined;
  if (memberOf(read.value, key) !== placeholder) return undefined;
  const inForm = read.written === 'form';
  const written = inForm ? encodeURIComponent(value) : JSON.stringify(value).slice(1, -1);
  const filled = { ...body, bytes: Buffer.from(parts.join(written), 'latin1') };
  // The one that was replaced could have been another than the one that was read.
  const after = bodyValue({ ...call, body: filled });
  const fits = after.kind === 'value' && String(memberOf(after.value, key)) === value;
  return fits ? filled : undefined;
}

function memberOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return (value as Record<string, unknown>)[key];
}

export function placeName(place: CredentialPlace): string {
  switch (place.kind) {
    case 'query':
      return `the key \`${place.key}\``;
    case 'field':
      return `the field \`${place.key}\` of the body`;
    default:
      return `the field \`${fieldOf(place)}\``;
  }
}

/** Where a placeholder stands, and the text that it is in. */
export function* placesIn(call: Call): Generator<readonly [where: string, text: string]> {
  for (const [name, value] of call.headers) {
    if (value.includes(MARK)) yield [`the field \`${name}\``, value];
    else if (value.length < MOST_ENCODED && BASIC.test(value)) {
      const decoded = Buffer.from(value.slice(6), 'base64').toString('latin1');
      if (decoded.includes(MARK)) yield [`the field \`${name}\``, decoded];
    }
  }
  if (call.path.includes(MARK)) yield ['the path', call.path];
  if (call.query.includes(MARK) || call.query.includes('%')) {
    for (const [key, value] of new URLSearchParams(call.query)) {
      const text = `${key}=${value}`;
      if (text.includes(MARK)) yield [`the key \`${key}\``, text];
    }
  }
  if (call.body.kind === 'buffered') {
    const bytes = asBuffer(call.body.bytes);
    if (bytes.includes(MARK)) yield [BODY, bytes.toString('latin1')];
  }
}

const BASIC = /^basic /i;
const MOST_ENCODED = 8192;

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
