// RFC 8785 canonical JSON (JCS): one byte sequence for one value, so that two programs that never
// spoke agree on a digest. Refuses what I-JSON (RFC 7493) refuses: lone surrogates and numbers
// that JSON cannot carry. `undefined` members are left out, as in JSON.stringify.

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json | undefined };

/** The canonical text of a value. Throws a TypeError for anything that I-JSON cannot hold. */
export function canonical(value: Json): string {
  switch (typeof value) {
    case 'string':
      return quote(value);
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError(`${value} has no JSON form`);
      return JSON.stringify(value);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'object':
      break;
    default:
      throw new TypeError(`a ${typeof value} has no JSON form`);
  }
  if (value === null) return 'null';
  if (Array.isArray(value)) {
    let out = '[';
    for (let i = 0; i < value.length; i++) out += (i ? ',' : '') + canonical(value[i] as Json);
    return `${out}]`;
  }
  const object = value as { readonly [key: string]: Json | undefined };
  let out = '';
  // RFC 8785 section 3.2.3: members are sorted by UTF-16 code units, which is what sort() does.
  for (const key of Object.keys(object).sort()) {
    const member = object[key];
    if (member === undefined) continue;
    out += `${out === '' ? '' : ','}${quote(key)}:${canonical(member)}`;
  }
  return `{${out}}`;
}

/** Printable ASCII without a quote or a backslash: its own JSON form. */
const PLAIN = /^[ !#-[\]-~]*$/;

function quote(text: string): string {
  if (PLAIN.test(text)) return `"${text}"`;
  if (!text.isWellFormed()) throw new TypeError('a lone surrogate has no JSON form');
  return JSON.stringify(text);
}
