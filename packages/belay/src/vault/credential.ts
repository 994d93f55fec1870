// What the vault is told of a credential beside its value: where it belongs, and what becomes of tokens
// that it is answered with.

import type { CredentialPlace } from '../config/config.ts';
import type { Host } from '../core/target.ts';
import type { TokenKey } from './tokens.ts';

export interface CredentialSpec {
  readonly name: string;
  readonly environment: string;
  readonly host: Host;
  /** That the agent asks for, wherever the upstream really is. */
  readonly port: number;
  /** Upper case; absent: any. */
  readonly methods?: readonly string[];
  /** Matches a normalised path. */
  readonly allowsPath: (path: string) => boolean;
  readonly place: CredentialPlace;
  /** Used where its placeholder stands; absent: wherever it is bound. Fields of bodies always are. */
  readonly presented?: boolean;
  /** Only the gateway uses it, in calls that it raises: it is put into none of the agent's. */
  readonly reserved?: boolean;
  /** Calls with it are answered with tokens; absent: an answer that holds one is not passed on. */
  readonly mints?: Mints;
  /** Why a body is none that it may be used with; absent: any body. */
  readonly bodyFault?: (body: unknown) => string | undefined;
  /** The variable that holds the placeholder inside the sandbox. */
  readonly variable?: string;
}

/** What becomes of the tokens that calls with a credential are answered with. */
export type Mints =
  /** Credentials of their own. */
  | {
      readonly kind: 'new';
      /** Their names begin with it. */
      readonly name: string;
      /** Take the tokens of access, in `authorization: Bearer`. */
      readonly hosts: readonly { readonly host: Host; readonly port: number }[];
      /** In lower case: members that hold one beside `access_token`. */
      readonly keys: ReadonlySet<string>;
    }
  /** New values of credentials that are held already. */
  | {
      readonly kind: 'renewed';
      readonly names: Readonly<Partial<Record<TokenKey, string>>>;
      /** Hears of them before the answer goes on. */
      readonly onRenewed: (tokens: RenewedTokens) => void;
    };

export interface RenewedTokens {
  readonly values: Readonly<Partial<Record<TokenKey, string>>>;
  readonly expiresInS?: number;
}
