// Credentials. The real value lives here and nowhere else; the agent holds a placeholder that is
// worthless anywhere. INVARIANT: I5: a value leaves the vault only inside the headers of a call to
// the environment, host, port, method and path that the credential is bound to.

import type { Call, Headers } from '../core/call.ts';
import type { Host } from '../core/target.ts';

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
  /** Lower case. */
  readonly header: string;
  /** `{}` stands for the value. */
  readonly format: string;
  /** The variable that holds the placeholder inside the sandbox. */
  readonly variable?: string;
}

/** The credentials of one run: what the launcher read once, for that run only. */
export interface Vault {
  /** Variables for the sandbox, holding placeholders. */
  placeholders(): Readonly<Record<string, string>>;
  /** The headers to send, and the names of the credentials that were put in. */
  inject(
    call: Call,
    environment: string,
  ): { readonly headers: Headers; readonly names: readonly string[] };
  /** Forgets every value. */
  clear(): void;
}

interface Held extends CredentialSpec {
  readonly placeholder: string;
  readonly value: string;
}

const NONE: readonly string[] = [];

export function createVault(
  credentials: readonly { readonly spec: CredentialSpec; readonly value: string }[],
  placeholderOf: (name: string) => string,
): Vault {
  const held: Held[] = credentials.map(({ spec, value }) => ({
    ...spec,
    value,
    placeholder: placeholderOf(spec.name),
  }));
  return {
    placeholders() {
      const variables: Record<string, string> = {};
      for (const { variable, placeholder } of held) {
        if (variable !== undefined) variables[variable] = placeholder;
      }
      return variables;
    },
    inject(call, environment) {
      const bound = held.filter(
        (credential) =>
          credential.environment === environment &&
          credential.host === call.target.host &&
          credential.port === call.target.port &&
          call.target.scheme === 'https' &&
          credential.methods.includes(call.method) &&
          credential.allowsPath(call.path),
      );
      if (bound.length === 0) return { headers: call.headers, names: NONE };
      const replaced = new Set(bound.map(({ header }) => header));
      const headers = call.headers.filter(([name]) => !replaced.has(name));
      for (const { header, format, value } of bound) {
        headers.push([header, format.replace('{}', () => value)]);
      }
      return { headers, names: bound.map(({ name }) => name) };
    },
    clear() {
      held.length = 0;
    },
  };
}
