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
