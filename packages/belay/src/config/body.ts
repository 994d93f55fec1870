// The body of a call as one value, for what is decided by it: the schema of a credential, the fields of
// a policy. What two readers could take for two values is none: a key that comes twice (some readers do
// not tell cases apart), text that is not UTF-8, a coding on top, a type that is not said. What is
// checked is what is sent, byte for byte.

import { visit } from 'jsonc-parser';
import type { CallBody, Headers } from '../core/call.ts';

export type BodyValue =
  | { readonly kind: 'value'; readonly value: unknown; readonly written: 'json' | 'form' }
  | { readonly kind: 'unread'; readonly why: string };

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** What every reader takes for the same number. */
const PLAIN_INTEGER = /^(?:0|-?[1-9]\d{0,14})$/;

export interface WithBody {
  readonly headers?: Headers;
  readonly body: { readonly kind: CallBody['kind']; readonly bytes?: Uint8Array };
}

/** JSON, or a form, whose fields are strings and plain integers. */
export function bodyValue({ headers = [], body }: WithBody): BodyValue {
  const field = (wanted: string) => headers.find(([name]) => name === wanted)?.[1];
  if (body.kind === 'streamed') return unread('it is over 1 MiB');
  if (body.bytes === undefined) return unread('there is none');
  if (field('content-encoding') !== undefined) return unread('it is encoded');
  let text: string;
  try {
    text = UTF8.decode(body.bytes);
  } catch {
    return unread('it is not UTF-8');
  }
  const type = (field('content-type') ?? '').toLowerCase().replace(/; *charset=("?)utf-8\1$/, '');
  if (type === 'application/json') return json(text);
  if (type === 'application/x-www-form-urlencoded') return form(text);
  return unread('it is neither JSON nor a form');
}

function json(text: string): BodyValue {
  const open: Set<string>[] = [];
  let why: string | undefined;
  try {
    const value: unknown = JSON.parse(text);
    visit(text, {
      onObjectBegin: () => void open.push(new Set()),
      onObjectEnd: () => void open.pop(),
      onObjectProperty(name) {
        const names = open.at(-1);
        const folded = fold(name);
        if (names?.has(folded)) why = 'a key comes twice';
        names?.add(folded);
      },
    });
    return why === undefined ? { kind: 'value', value, written: 'json' } : unread(why);
  } catch {
    return unread('it is not JSON');
  }
}

function form(text: string): BodyValue {
  if (!/^[!-~]*$/.test(text)) return unread('it is not a form');
  const names = new Set<string>();
  const fields: [name: string, value: string | number][] = [];
  for (const [name, value] of new URLSearchParams(text)) {
    if (names.has(fold(name))) return unread('a field comes twice');
    names.add(fold(name));
    fields.push([name, PLAIN_INTEGER.test(value) ? Number(value) : value]);
  }
  return { kind: 'value', value: Object.fromEntries(fields), written: 'form' };
}

/** One text for all that differ by case alone, `\u017f` and `s` too. */
export function fold(name: string): string {
  return name.toUpperCase().toLowerCase();
}

function unread(why: string): BodyValue {
  return { kind: 'unread', why };
}
