// Token endpoints (RFC 6749 section 5 and their like): which calls ask one, and which tokens an answer
// holds, at any depth. A call is known by its path or by the kind of grant that it names, also where it
// writes that in escapes.

import type { Call, Headers } from '../core/call.ts';

/** `oauth/token`, `login/oauth/access_token` ... */
const TOKEN_PATH = /\/(?:access_?)?token\/?$/i;
/** `installations/1/access_tokens` makes one; asked with GET, such a path lists what has the name. */
const TOKENS_PATH = /\/(?:access_?)?tokens\/?$/i;
const GRANT = 'grant_type';
/** The same, with any of its letters in the escapes of a URL or of JSON. */
const WRITTEN_GRANT = new RegExp([...GRANT].map(orEscaped).join(''), 'i');

function orEscaped(letter: string): string {
  const hex = Buffer.from(letter).toString('hex');
  return `(?:${letter}|%${hex}|\\\\u00${hex})`;
}

/** In a body of several parts. */
const PART_NAMES_GRANT = /\bname="?grant_type\b/i;

export function isTokenPath({ method, path }: Pick<Call, 'method' | 'path'>): boolean {
  return TOKEN_PATH.test(path) || (method !== 'GET' && TOKENS_PATH.test(path));
}

/** Of types in which a server could read a form; what is no type is none that keeps it from that. */
const FORM_LIKE = /urlencoded|text\/|multipart|^[^/]*$/i;

/** Whether what comes back could be a token: by its path, or because it names a kind of grant. */
export function asksForToken(call: Call): boolean {
  const known = verdicts.get(call);
  if (known !== undefined) return known;
  const verdict = couldAskForToken(call);
  verdicts.set(call, verdict);
  return verdict;
}

/** It is asked on the way out and on the way back. */
const verdicts = new WeakMap<Call, boolean>();

function couldAskForToken(call: Call): boolean {
  const { kind, method, query, headers, body } = call;
  if (kind !== 'http') return false;
  if (isTokenPath(call) || WRITTEN_GRANT.test(query)) return true;
  if (method !== 'POST' || body.kind !== 'buffered') return false;
  const bytes = Buffer.from(body.bytes.buffer, body.bytes.byteOffset, body.bytes.length);
  const type = headers.find(([name]) => name === 'content-type')?.[1] ?? '';
  // Most bodies hold none of these, and are not read.
  const escaped = bytes.includes('\\u00') || (FORM_LIKE.test(type) && bytes.includes('%'));
  if (!escaped && !bytes.includes(GRANT)) return false;
  // What is looked for is ASCII, also where the rest is read as other letters than it is.
  const text = bytes.toString('latin1').replace(/^\xef\xbb\xbf/, '');
  if (!WRITTEN_GRANT.test(text)) return false;
  if (/multipart/i.test(type)) return PART_NAMES_GRANT.test(text);
  return namesGrant(text, /urlencoded/i.test(type));
}

/** At the top: further down it is text about tokens. */
function namesGrant(text: string, inForm: boolean): boolean {
  if (!inForm) {
    try {
      const value: unknown = JSON.parse(text);
      return typeof value === 'object' && value !== null && Object.hasOwn(value, GRANT);
    } catch {
      // A form that does not say so, perhaps.
    }
  }
  return new URLSearchParams(text).has(GRANT);
}

/** What shows itself and holds no token: a picture, or a page of documentation. */
export function isShown({ method, query }: Call, headers: Headers): boolean {
  const type = headers.find(([name]) => name === 'content-type')?.[1] ?? '';
  if (/^(?:image|audio|video|font)\//i.test(type)) return true;
  return method === 'GET' && !WRITTEN_GRANT.test(query) && /^text\/(?:html|markdown)\b/i.test(type);
}

/** Of a member, as JSON, forms, XML and the like write it. */
const NAMED = /(?:access|refresh|(?<![a-z])id)(?:_|-|%5f|\\u005f)?token(?![a-z])/i;
const NAMED_TOKEN = /(?<!\w)token["'\s]*[:=>]/i;

/** Whether an answer that nobody here can read speaks of a token. */
export function namesToken(call: Call, bytes: Buffer): boolean {
  // In two bytes for each letter it is the same to whoever wants it.
  const text = bytes.toString('latin1').replaceAll('\0', '');
  return NAMED.test(text) || (isTokenPath(call) && NAMED_TOKEN.test(text));
}

export type TokenKey = 'access_token' | 'refresh_token' | 'id_token';

const KEYS: ReadonlyMap<string, TokenKey> = new Map([
  ['accesstoken', 'access_token'],
  ['refreshtoken', 'refresh_token'],
  ['idtoken', 'id_token'],
]);

/** `more` are keys, in lower case, whose values give access as well. */
function tokenKey(key: string, more: ReadonlySet<string>): TokenKey | undefined {
  const folded = key.toLowerCase();
  return KEYS.get(folded.replaceAll('_', '')) ?? (more.has(folded) ? 'access_token' : undefined);
}

/** An answer as it was read: JSON, or a form. */
export interface TokenAnswer {
  readonly kind: 'answer';
  /** Its text, with each token as `write` wants it. */
  rewrite(write: (key: TokenKey, token: string) => string): string;
  readonly holdsToken: boolean;
  readonly expiresInS?: number;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true });
const DEEPEST = 32;

/** Undefined for what is neither JSON with members nor a form. */
export function readTokenAnswer(
  bytes: Uint8Array,
  more: ReadonlySet<string>,
): TokenAnswer | undefined {
  let value: unknown;
  let form = false;
  try {
    const text = UTF8.decode(bytes);
    form = /^[\w.~-]+=[!-~]*$/.test(text.trim());
    value = form ? Object.fromEntries(new URLSearchParams(text.trim())) : JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  let holdsToken = false;
  const walk = (
    node: unknown,
    write: (key: TokenKey, token: string) => string,
    depth: number,
  ): unknown => {
    if (typeof node !== 'object' || node === null) return node;
    if (depth > DEEPEST) throw new RangeError('too deep');
    if (Array.isArray(node)) return node.map((one) => walk(one, write, depth + 1));
    const pairs = Object.entries(node).map(([key, member]) => {
      const token = typeof member === 'string' && member !== '' ? tokenKey(key, more) : undefined;
      if (token === undefined) return [key, walk(member, write, depth + 1)];
      holdsToken = true;
      return [key, write(token, member as string)];
    });
    return Object.fromEntries(pairs);
  };
  try {
    walk(value, (_key, token) => token, 0);
  } catch {
    return undefined;
  }
  const { expires_in: expiresIn } = value as { readonly expires_in?: unknown };
  return {
    kind: 'answer',
    holdsToken,
    ...(typeof expiresIn === 'number' && expiresIn >= 0 ? { expiresInS: expiresIn } : {}),
    rewrite(write) {
      const changed = walk(value, write, 0);
      return form
        ? new URLSearchParams(changed as Record<string, string>).toString()
        : JSON.stringify(changed);
    },
  };
}
