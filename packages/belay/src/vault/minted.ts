// Tokens that an upstream answers with (`vault.minted`): taken into the vault as credentials, bound to
// the environment of their run and to the hosts that were declared for them, before the agent gets the
// answer with placeholders in their places. INVARIANT: I5: an answer that could hold a token is read
// whole; what nobody declared, or what cannot be read, is not passed on.

import type { Call, Headers, Response } from '../core/call.ts';
import type { CredentialSpec, Mints } from './credential.ts';
import { gather, sourceOf } from './gather.ts';
import {
  isTokenPath,
  namesToken,
  readTokenAnswer,
  type TokenAnswer,
  type TokenKey,
} from './tokens.ts';

export interface Screened {
  readonly kind: 'screened';
  readonly answer: Response;
  /** Names of the credentials whose values were in it, of all that has passed. Absent: it was not
   * looked into. */
  readonly redacted?: ReadonlySet<string>;
  /** Names of the credentials that were taken from it. */
  readonly minted?: readonly string[];
}

/** It has been read, or what there was of it. */
export interface Withheld {
  readonly kind: 'withheld';
  readonly code: 'answer.token' | 'upstream.broken';
  readonly why: string;
}

/** A credential that the vault holds. */
interface Known {
  readonly name: string;
  readonly placeholder: string;
}

export interface CaptureParts {
  /** Without a value: any of that name. */
  readonly known: (name: string, value?: string) => Known | undefined;
  /** False when there is no room for it. */
  readonly hold: (specs: readonly CredentialSpec[], value: string, placeholder: string) => boolean;
  readonly renew: (values: Readonly<Record<string, string>>) => void;
  readonly placeholderOf: (name: string, value?: string) => string;
  /** An answer with stars for every value that is held by now. */
  readonly starred: (answer: Response) => {
    readonly shown: Response;
    readonly found: ReadonlySet<string>;
  };
}

/** `mints` are of the credential that the call used; absent: no token is expected. */
export type Capture = (
  call: Call,
  environment: string,
  answer: Response,
  mints: Mints | undefined,
) => Promise<Screened | Withheld>;

const MOST_ANSWER = 64 * 1024;
/** Of one run: each is looked for in what comes back. */
const MOST_MINTED = 256;
/** Longer ones are not held, so the answer that has one is withheld. */
const TOKEN = /^[!-~]{1,16384}$/;
/** Of all tokens of one answer: what looks for them is built in one turn of the loop. */
const MOST_TOKEN_BYTES = 24 * 1024;
/** Fields that speak of the bytes as they were. */
export const OF_THE_BYTES = new Set([
  'content-encoding',
  'content-length',
  'content-digest',
  'digest',
]);

/** Of a run that has ended, or a token that nobody needs. */
const NOBODYS: Known = { name: '', placeholder: '' };

export function createCapture(parts: CaptureParts): Capture {
  const { known, hold, renew, placeholderOf, starred } = parts;
  let minted = 0;

  /** Takes a token in, and answers what stands for it; undefined when there is no room for it. */
  const mint = (
    call: Call,
    environment: string,
    mints: Mints,
    key: TokenKey,
    value: string,
  ): Known | undefined => {
    if (!TOKEN.test(value)) return undefined;
    if (mints.kind === 'renewed') {
      const name = mints.names[key];
      return name === undefined ? NOBODYS : (known(name) ?? NOBODYS);
    }
    const name = `${mints.name}.${key}`;
    const before = known(name, value);
    if (before !== undefined) return before;
    if (minted === MOST_MINTED) return undefined;
    const placeholder = placeholderOf(name.slice(0, 63), value);
    if (!hold(specsOf(call, environment, mints, key, name), value, placeholder)) return undefined;
    minted += 1;
    return { name, placeholder };
  };

  /** The text of an answer with placeholders for its tokens, or why a token cannot be taken in. */
  const take = (call: Call, environment: string, mints: Mints, answer: TokenAnswer) => {
    const names = new Set<string>();
    const values: Partial<Record<TokenKey, string>> = {};
    let fault: string | undefined;
    // A renewal comes from an endpoint that we name, and must not be lost.
    let left = mints.kind === 'new' ? MOST_TOKEN_BYTES : Number.POSITIVE_INFINITY;
    const text = answer.rewrite((key, token) => {
      left -= token.length;
      const taken = left < 0 ? undefined : mint(call, environment, mints, key, token);
      if (taken === undefined) fault ??= `its \`${key}\` cannot be held`;
      else values[key] = token;
      if (taken !== undefined && taken !== NOBODYS) names.add(taken.name);
      return taken?.placeholder ?? '';
    });
    // Also when the run has ended, or the rest cannot be held: what was spent is spent.
    if (mints.kind === 'renewed') {
      const { expiresInS } = answer;
      renew(byName(mints.names, values));
      mints.onRenewed({ values, ...(expiresInS === undefined ? {} : { expiresInS }) });
    }
    return { text, fault, names: [...names].sort() };
  };

  return async (call, environment, answer, mints) => {
    const read = await gather(answer.body, MOST_ANSWER);
    if (read.kind === 'broken') {
      return { kind: 'withheld', code: 'upstream.broken', why: read.why };
    }
    const withheld = (why: string): Withheld => ({ kind: 'withheld', code: 'answer.token', why });
    if (read.kind === 'larger') return withheld('it is over 64 KiB, and could hold a token');
    const declaredKeys = mints?.kind === 'new' ? [...mints.keys] : [];
    const keys = new Set([...declaredKeys, ...tokenKeysAt(call)]);
    const found = readTokenAnswer(read.bytes, keys);
    const declared = mints !== undefined;
    if (found === undefined && answer.status < 400 && read.bytes.length > 0) {
      if (declared) return withheld('it cannot be read, and could hold a token');
      if (namesToken(call, read.bytes)) return withheld('it cannot be read, and names a token');
    }
    const shown = (bytes: Uint8Array, headers: Headers, names: readonly string[]): Screened => {
      const { shown: seen, found: redacted } = starred({
        ...answer,
        headers,
        body: sourceOf(bytes, read.trailers),
      });
      return { kind: 'screened', answer: seen, redacted, minted: names };
    };
    if (!found?.holdsToken) return shown(read.bytes, answer.headers, []);
    if (!declared) return withheld('it holds a token, and no credential mints there');
    const { text, fault, names } = take(call, environment, mints, found);
    if (fault !== undefined) return withheld(fault);
    // After the tokens were taken in: they may stand in it once more.
    const headers = answer.headers.filter(([name]) => !OF_THE_BYTES.has(name));
    return shown(Buffer.from(text), headers, names);
  };
}

function byName(
  names: Extract<Mints, { readonly kind: 'renewed' }>['names'],
  values: Partial<Record<TokenKey, string>>,
): Record<string, string> {
  const pairs = Object.entries(values).flatMap(([key, value]) => {
    const name = names[key as TokenKey];
    return name === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(pairs);
}

/** Where a token belongs. */
function specsOf(
  call: Call,
  environment: string,
  mints: Extract<Mints, { readonly kind: 'new' }>,
  key: TokenKey,
  name: string,
): readonly CredentialSpec[] {
  const common = { name, environment, presented: true };
  if (key === 'access_token') {
    const place = { kind: 'header', name: 'authorization', format: 'Bearer {}' } as const;
    return mints.hosts.map((at) => ({ ...common, ...at, allowsPath: () => true, place }));
  }
  // What renews or names it goes back to where it came from.
  const { method, path, target } = call;
  const { host, port } = target;
  const allowsPath = (asked: string): boolean => asked === path;
  const place = { kind: 'field', key } as const;
  return [{ ...common, host, port, methods: [method], allowsPath, place, mints }];
}

/** At a path that is named after tokens, more is taken for one than the members that the RFC names. */
function tokenKeysAt(call: Call): readonly string[] {
  return isTokenPath(call) ? ['token'] : [];
}
