// Credentials. The real value lives here and nowhere else; the agent holds a placeholder that is
// worthless anywhere. INVARIANT: I5: a value leaves the vault only in its own place in a call to the
// environment, host, port, method and path that the credential is bound to, and never comes back: in
// what such a host answers it is starred out, and a token that one is answered with stays here as well.
// A placeholder at another host or in another place is an attempt to take a credential where it does
// not belong.

import { bodyValue } from '../config/body.ts';
import type { Call, CallBody, CallKind, Headers, Response } from '../core/call.ts';
import { hostPort, printable } from '../core/target.ts';
import type { CredentialSpec } from './credential.ts';
import { decoded, decoderOf } from './decode.ts';
import { needlesOf } from './forms.ts';
import { createCapture, OF_THE_BYTES, type Screened, type Withheld } from './minted.ts';
import {
  BODY,
  fieldOf,
  fieldValue,
  PLACEHOLDER,
  placeName,
  placesIn,
  withField,
  withKey,
} from './places.ts';
import { createRedactor } from './redact.ts';
import { createSearch } from './search.ts';
import { asksForToken, isShown } from './tokens.ts';

/** The credentials of one run: what the launcher read once, for that run only. */
export interface Vault {
  /** Variables for the sandbox, holding placeholders. */
  placeholders(): Readonly<Record<string, string>>;
  /** The headers, the query and the body to send, and the names of the credentials that were put in. */
  inject(call: Call, environment: string): Injected;
  /**
   * Why a call may not pass: a placeholder is in it that belongs elsewhere, or its body is none that
   * its credential may be used with. A streamed body is not searched for placeholders, nor what a
   * model is told: an agent that lists its variables tells it of them.
   */
  refusal(call: Call, kind: CallKind, environment: string): string | undefined;
  /**
   * An answer to a call as the agent may see it, or why it may see nothing of it. Values under 8 bytes
   * are not looked for. An answer that could hold a token is read whole first.
   */
  screen(
    call: Call,
    environment: string,
    answer: Response,
  ): Screened | Unreadable | Promise<Screened | Withheld>;
  /** From now on credentials have other values, by their names. */
  renew(values: Readonly<Record<string, string>>): void;
  /** Forgets every value. */
  clear(): void;
}

export interface Injected {
  readonly headers: Headers;
  readonly query: string;
  readonly body: CallBody;
  readonly names: readonly string[];
}

export interface Unreadable {
  readonly kind: 'unreadable';
  readonly why: string;
}

interface Held extends CredentialSpec {
  readonly placeholder: string;
  value: string;
}

const NONE: readonly string[] = [];
/** What an answer that is looked into must not be: coded, or a part. */
const LEFT_OUT = new Set(['accept-encoding', 'sec-websocket-extensions', 'range', 'if-range']);
/** The forms of all values together, in bytes: what looking for them takes in memory is ten times that. */
const MOST_SOUGHT = 2 * 1024 * 1024;
/** Answers whose fields may speak of a body that is not there. */
const WITHOUT_BODY = new Set([204, 304]);

export function createVault(
  credentials: readonly { readonly spec: CredentialSpec; readonly value: string }[],
  /** `value` tells tokens of one name apart. */
  placeholderOf: (name: string, value?: string) => string,
): Vault {
  const held: Held[] = credentials.map(({ spec, value }) => ({
    ...spec,
    value,
    placeholder: placeholderOf(spec.name),
  }));
  const search = createSearch();
  search.add(held.flatMap(({ name, value }) => needlesOf(name, value)));
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
      ({ methods, allowsPath, reserved }) =>
        reserved !== true &&
        (methods === undefined || methods.includes(call.method)) &&
        allowsPath(call.path),
    );
  /** At most one for each header; one whose placeholder the agent shows goes first. */
  const usedBy = (call: Call, environment: string): readonly Held[] => {
    const bound = boundTo(call, environment);
    const shown = bound.filter((credential) => isPresented(credential) && stands(credential, call));
    const taken = new Map(shown.map((one) => [fieldOf(one.place), one] as const));
    return [
      ...bound.filter((one) => !isPresented(one) && !taken.has(fieldOf(one.place) ?? '')),
      ...shown.filter((one) => one.place.kind === 'field' || taken.get(fieldOf(one.place)) === one),
    ];
  };

  const hold = (specs: readonly CredentialSpec[], value: string, placeholder: string): boolean => {
    const needles = needlesOf(specs[0]?.name ?? '', value);
    const size = needles.reduce((sum, { bytes }) => sum + bytes.length, search.size);
    if (size > MOST_SOUGHT) return false;
    for (const spec of specs) held.push({ ...spec, value, placeholder });
    search.add(needles);
    return true;
  };
  /** At once: each change of the search builds an automaton. */
  const renew = (values: Readonly<Record<string, string>>): void => {
    const sought = new Map<string, Set<string>>();
    for (const credential of held) {
      const { name, value: before } = credential;
      const value = Object.hasOwn(values, name) ? values[name] : undefined;
      if (value === undefined || value === before) continue;
      // What was sent under the old one may still come back.
      sought.set(name, new Set([...(sought.get(name) ?? []), before, value]));
      credential.value = value;
    }
    search.remove(new Set(sought.keys()));
    search.add([...sought].flatMap(([name, all]) => [...all].flatMap((v) => needlesOf(name, v))));
  };

  const starred = (answer: Response) => {
    const redactor = createRedactor(search);
    const headers = redactor.headers(answer.headers);
    const shown: Response = { ...answer, headers, body: redactor.body(answer.body) };
    return { shown, found: redactor.found };
  };

  const capture = createCapture({
    known: (name, value) =>
      held.find((one) => one.name === name && (value === undefined || one.value === value)),
    hold,
    renew,
    placeholderOf,
    starred,
  });
  return {
    placeholders() {
      const variables: Record<string, string> = {};
      for (const { variable, placeholder } of held) {
        if (variable !== undefined) variables[variable] = placeholder;
      }
      return variables;
    },
    inject(call, environment) {
      let { query, body } = call;
      if (atHome(call, environment).length === 0 && !asksForToken(call)) {
        return { headers: call.headers, query, body, names: NONE };
      }
      const used = usedBy(call, environment);
      const replaced = new Set(used.map(({ place }) => fieldOf(place)));
      const headers = call.headers.filter(([name]) => !replaced.has(name) && !LEFT_OUT.has(name));
      if (call.kind !== 'websocket') headers.push(['accept-encoding', 'identity']);
      for (const { place, value, placeholder } of used) {
        if (place.kind === 'query') query = withKey(query, place.key, value);
        else if (place.kind === 'field') {
          body = withField({ ...call, body }, place.key, placeholder, value) ?? body;
        } else headers.push([fieldOf(place) as string, fieldValue(place, value)]);
      }
      return { headers, query, body, names: used.map(({ name }) => name) };
    },
    refusal(call, kind, environment) {
      for (const [where, text] of placesIn(call)) {
        if (kind === 'llm' && where === BODY) continue;
        for (const [found] of text.matchAll(PLACEHOLDER)) {
          const owners = held.filter(({ placeholder }) => placeholder === found);
          const [owner] = owners;
          if (owner === undefined) return `a placeholder that is not of this run, in ${where}`;
          const { host, port } = call.target;
          const here = owners.find((one) => one.host === host && one.port === port);
          if (here === undefined) {
            return `the placeholder of \`${owner.name}\`, which is for \`${hostPort(owner)}\`, in ${where}`;
          }
          if (here.reserved) {
            return `the placeholder of \`${here.name}\`, which only the gateway uses, in ${where}`;
          }
          const inPlace =
            here.place.kind === 'field'
              ? where === BODY && stands(here, call)
              : where === placeName(here.place);
          if (!inPlace) {
            return `the placeholder of \`${here.name}\`, whose place is ${placeName(here.place)}, in ${where}`;
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
      const { status } = answer;
      const abroad = atHome(call, environment).length === 0;
      const minter = abroad
        ? undefined
        : usedBy(call, environment).find(({ mints }) => mints !== undefined);
      const couldMint =
        status !== 101 &&
        (minter !== undefined || (asksForToken(call) && !isShown(call, answer.headers)));
      if (!couldMint && abroad) return { kind: 'screened', answer };
      let { headers, body } = answer;
      const withBody = call.method !== 'HEAD' && !WITHOUT_BODY.has(status);
      const coding = codingOf(headers);
      if (coding !== '' && withBody) {
        const decoder = status === 206 ? undefined : decoderOf(coding);
        if (decoder === undefined) return unreadable(coding);
        body = decoded(body, decoder);
        headers = headers.filter(([name]) => !OF_THE_BYTES.has(name));
      }
      const plain = { ...answer, headers, body };
      if (couldMint && withBody) return capture(call, environment, plain, minter?.mints);
      const { shown, found } = starred(plain);
      return { kind: 'screened', answer: shown, redacted: found };
    },
    renew,
    clear() {
      held.length = 0;
      search.clear();
    },
  };
}

function isPresented({ presented, place }: CredentialSpec): boolean {
  return presented === true || place.kind === 'field';
}

/** Its placeholder is exactly where it belongs. */
function stands({ place, placeholder, value }: Held, call: Call): boolean {
  if (place.kind === 'field') return withField(call, place.key, placeholder, value) !== undefined;
  const field = fieldOf(place);
  return call.headers.some(([name, text]) => name === field && text.includes(placeholder));
}

/** All codings in their order; empty for none. */
function codingOf(headers: Headers): string {
  return headers
    .filter(([name, value]) => name === 'content-encoding' && !/^\s*(?:identity\s*)?$/i.test(value))
    .map(([, value]) => value)
    .join(', ');
}

function unreadable(coding: string): Unreadable {
  return { kind: 'unreadable', why: `the coding \`${printable(coding)}\` cannot be looked into` };
}
