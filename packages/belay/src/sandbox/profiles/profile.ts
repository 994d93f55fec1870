// What an agent needs to work in a sandbox that it does not know, as data: which variables to set,
// which of its own sandboxes and updaters to switch off, and which of its user's settings to copy in.
// Nothing here widens what the sandbox or the policy permits.

export interface Profile {
  readonly name: string;
  /** Names of the program, as `belay run -- NAME` gives them. */
  readonly commands: readonly string[];
  readonly variables: Readonly<Record<string, string>>;
  readonly files: readonly ProfileFile[];
  /** Read from the user's home and copied as they are, relative to it. */
  readonly copied: readonly string[];
  /** What was switched off and why, for the user. */
  readonly says?: string;
  /** How its user is signed in, when that is in a file. */
  readonly login?: Login;
}

/** Where something stands in a JSON file: the names of members, from the top. */
export type Pointer = readonly string[];

/** A file of OAuth tokens (RFC 6749), and what they are for. */
export interface Login {
  /** Its credentials are called after it. */
  readonly name: string;
  /** In the user's home, and where the agent's placeholder file is. */
  readonly path: string;
  readonly access: Pointer;
  readonly refresh: Pointer;
  readonly idToken?: Pointer;
  /** The access token's end in milliseconds; absent: its own claim `exp` says it. */
  readonly expiresAt?: Pointer;
  /** The time of the last renewal, as text. */
  readonly renewedAt?: Pointer;
  /** Copied into the placeholder file. Nothing else is: other tokens may be in there. */
  readonly kept: readonly Pointer[];
  /** Access and ID token are read as JWTs by the agent: these claims are in their placeholders. */
  readonly claims?: readonly string[];
  /** Takes the access token, as `authorization: Bearer`; a grant has to allow this preset. */
  readonly host: string;
  readonly preset: string;
  /** What gives new tokens for the refresh token (section 6), asked in JSON. */
  readonly renewal: {
    readonly host: string;
    readonly path: string;
    readonly clientId: string;
    /** The list of scopes in the file, which it is told. */
    readonly scopes?: Pointer;
  };
}

/** A file in the agent's home, relative to it. */
export type ProfileFile =
  /** Made when it is missing. */
  | { readonly kind: 'missing'; readonly path: string; readonly content: string }
  /** Written at each start: the named settings of the user's own file, and what is always so. */
  | {
      readonly kind: 'settings';
      readonly path: string;
      readonly keys: readonly string[];
      readonly always: Readonly<Record<string, unknown>>;
    };

/** A file to put into the agent's home, once inside. */
export interface HomeFile {
  readonly path: string;
  readonly content: string;
  readonly when: 'missing' | 'always';
}
