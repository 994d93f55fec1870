// Credentials. The real value lives here and nowhere else; the agent holds a placeholder that is
// worthless anywhere. INVARIANT: I5: a value leaves the vault only in its own place in a call to the
// environment, host, port, method and path that the credential is bound to, and never comes back: in
// what such a host answers it is starred out. A placeholder at another host or in another place is an
// attempt to take a credential where it does not belong.

import type { CredentialPlace } from '../config/config.ts';
import type { Call, CallKind, Headers, Response } from '../core/call.ts';
import { type Host, hostPort, printable } from '../core/target.ts';
import { bodyValue } from './body.ts';
import { decoded, decoderOf } from './decode.ts';
import { createRedactor, type Needle, needlesOf } from './redact.ts';

export interface CredentialSpec {
  readonly name: string;
  readonly environment: string;
  readonly host: Host;
  /** That the agent asks for, wherever the upstream really is. */
  readonly port: number;
  /** Upper case. */
  readonly methods: readonly string[];
  /** Matches a normalised path. */
  readonly allowsPath: (path: string) => boolean;
  readonly place: CredentialPlace;
  /** Why a body is none that it may be used with; absent: any body. */
  readonly bodyFault?: (body: unknown) => string | undefined;
  /** The variable that holds the placeholder inside the sandbox. */
  readonly variable?: string;
}

/** The credentials of one run: what the launcher read once, for that run only. */
export interface Vault {
  /** Variables for the sandbox, holding placeholders. */
  placeholders(): Readonly<Record<string, string>>;
  /** The headers and the query to send, and the names of the credentials that were put in. */
  inject(call: Call, environment: string): Injected;
  /**
   * Why a call may not pass: a placeholder is in it that belongs elsewhere, or its body is none that
   * its credential may be used with. A streamed body is not searched for placeholders, nor what a
   * model is told: an agent that lists its variables tells it of them.
   */
  refusal(call: Call, kind: CallKind, environment: string): string | undefined;
  /**
   * An answer to a call as the agent may see it, or why it may see nothing of it. Values under 8 bytes
   * are not looked for.
   */
  screen(call: Call, environment: string, answer: Response): Screened | Unreadable;
  /** Forgets every value. */
  clear(): void;
}

export interface Injected {
  readonly headers: Headers;
  readonly query: string;
  readonly names: readonly string[];
}

export interface Screened {
  readonly kind: 'screened';
  readonly answer: Response;
  /** Names of the credentials whose values were in it, of all that has passed. Absent: it was not
   * looked into. */
  readonly redacted?: ReadonlySet<string>;
}

export interface Unreadable {
  readonly kind: 'unreadable';
  readonly why: string;
}

interface Held extends CredentialSpec {
  readonly placeholder: string;
  readonly value: string;
}

const NONE: readonly string[] = [];
/** What an answer that is looked into must not be: coded, or a part. */
const LEFT_OUT = new Set(['accept-encoding', 'sec-websocket-extensions', 'range', 'if-range']);
/** Answers whose fields may speak of a body that is not there. */
const WITHOUT_BODY = new Set([204, 304]);

export function createVault(
  credentials: readonly { readonly spec: CredentialSpec; readonly value: string }[],
  placeholderOf: (name: string) => string,
): Vault {
  const held: Held[] = credentials.map(({ spec, value }) => ({
    ...spec,
    value,
    placeholder: placeholderOf(spec.name),
  }));
  const needles: Needle[] = held.flatMap(({ name, value }) => needlesOf(name, value));
  const atHome = (call: Call, environment: string): readonly Held[] =>
    held.filter(
      (credential) =>
        credential.environment === environment &&
        credential.host === call.target.host &&
        credential.port === call.target.port &&
        call.target.scheme === 'https',
    );
  const boundTo = (call: Call, environment: string): readonly Held[] =>
    atHome(call, environment).filter(
      ({ methods, allowsPath }) => methods.includes(call.method) && allowsPath(call.path),
    );
  return {
    placeholders() {
      const variables: Record<string, string> = {};
      for (const { variable, placeholder } of held) {
        if (variable !== undefined) variables[variable] = placeholder;
      }
      return variables;
    },
    inject(call, environment) {
      if (atHome(call, environment).length === 0) {
        return { headers: call.headers, query: call.query, names: NONE };
      }
      const bound = boundTo(call, environment);
      const replaced = new Set(bound.map(({ place }) => fieldOf(place)));
      const headers = call.headers.filter(([name]) => !replaced.has(name) && !LEFT_OUT.has(name));
      if (call.kind !== 'websocket') headers.push(['accept-encoding', 'identity']);
      let { query } = call;
      for (const { place, value } of bound) {
        if (place.kind === 'query') query = withKey(query, place.key, value);
        else headers.push([fieldOf(place) as string, fieldValue(place, value)]);
      }
      return { headers, query, names: bound.map(({ name }) => name) };
    },
    refusal(call, kind, environment) {
      for (const [where, text] of placesIn(call)) {
        if (kind === 'llm' && where === BODY) continue;
        for (const [found] of text.matchAll(PLACEHOLDER)) {
          const owner = held.find(({ placeholder }) => placeholder === found);
          if (owner === undefined) return `a placeholder that is not of this run, in ${where}`;
          const { host, port } = call.target;
          if (owner.host !== host || owner.port !== port) {
            return `the placeholder of \`${owner.name}\`, which is for \`${hostPort(owner)}\`, in ${where}`;
          }
          if (where !== placeName(owner.place)) {
            return `the placeholder of \`${owner.name}\`, whose place is ${placeName(owner.place)}, in ${where}`;
          }
        }
      }
      for (const { name, bodyFault } of boundTo(call, environment)) {
        if (bodyFault === undefined) continue;
        const body = bodyValue(call);
        const why = body.kind === 'unread' ? body.why : bodyFault(body.value);
        if (why !== undefined) return `the body is none for the credential \`${name}\`: ${why}`;
      }
      return undefined;
    },
    screen(call, environment, answer) {
      if (atHome(call, environment).length === 0) return { kind: 'screened', answer };
      const redactor = createRedactor(needles);
      const { status } = answer;
      let { headers, body } = answer;
      const coding = codingOf(headers);
      if (coding !== '' && call.method !== 'HEAD' && !WITHOUT_BODY.has(status)) {
        const decoder = status === 206 ? undefined : decoderOf(coding);
        if (decoder === undefined) return unreadable(coding);
        body = decoded(body, decoder);
        headers = headers.filter(([name]) => !OF_THE_CODED.has(name));
      }
      const shown = { ...answer, headers: redactor.headers(headers), body: redactor.body(body) };
      return { kind: 'screened', answer: shown, redacted: redactor.found };
    },
    clear() {
      held.length = 0;
      needles.length = 0;
    },
  };
}

/** All codings in their order; empty for none. */
function codingOf(headers: Headers): string {
  return headers
    .filter(([name, value]) => name === 'content-encoding' && !/^\s*(?:identity\s*)?$/i.test(value))
    .map(([, value]) => value)
    .join(', ');
}

const OF_THE_CODED = new Set(['content-encoding', 'content-length', 'content-digest', 'digest']);

function unreadable(coding: string): Unreadable {
  return { kind: 'unreadable', why: `the coding \`${printable(coding)}\` cannot be looked into` };
}

/** As control/placeholders.ts makes them. */
const PLACEHOLDER = /blp-[A-Za-z0-9._-]{1,63}-[0-9a-f]{32}/g;
const MARK = 'blp-';
const BODY = 'the body';

/** The field that a credential replaces. */
function fieldOf(place: CredentialPlace): string | undefined {
  switch (place.kind) {
    case 'header':
      return place.name;
    case 'basic':
      return 'authorization';
    case 'query':
      return undefined;
  }
}

function fieldValue(
  place: Exclude<CredentialPlace, { readonly kind: 'query' }>,
  value: string,
): string {
  if (place.kind === 'header') return place.format.replace('{}', () => value);
  return `Basic ${Buffer.from(`${place.user}:${value}`).toString('base64')}`;
}

/** The other pairs stay as they were written. */
function withKey(query: string, key: string, value: string): string {
  const others = query.split('&').filter((pair) => {
    return pair !== '' && new URLSearchParams(pair).keys().next().value !== key;
  });
  return [...others, `${key}=${encodeURIComponent(value)}`].join('&');
}

function placeName(place: CredentialPlace): string {
  return place.kind === 'query' ? `the key \`${place.key}\`` : `the field \`${fieldOf(place)}\``;
}

/** Where a placeholder stands, and the text that it is in. */
function* placesIn(call: Call): Generator<readonly [where: string, text: string]> {
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
    const bytes = Buffer.from(
      call.body.bytes.buffer,
      call.body.bytes.byteOffset,
      call.body.bytes.length,
    );
    if (bytes.includes(MARK)) yield [BODY, bytes.toString('latin1')];
  }
}

const BASIC = /^basic /i;
const MOST_ENCODED = 8192;
