// What belay.jsonc says, parsed: the shapes that the rest of Belay works with. Hosts are canonical,
// sizes are bytes, times are milliseconds, references are checked. Secrets are references only.

import type { Mode } from '../core/call.ts';
import type { Host } from '../core/target.ts';
import type { AllowEntry } from './allow.ts';

export interface CapsConfig {
  readonly calls?: number;
  readonly bytes?: number;
}

export interface AgentConfig {
  readonly name: string;
  /** Where a run of this agent goes when none is named. */
  readonly environment: string;
  /** Of each run; what is absent has the host's default. */
  readonly limits: { readonly processes?: number; readonly memoryBytes?: number };
}

export interface EnvironmentConfig {
  readonly sandboxRequired: boolean;
}

/** What one agent may do in one environment; no two grants share both. */
export interface GrantConfig {
  /** `belay.jsonc:7:5`. */
  readonly origin: string;
  readonly agent: string;
  readonly environment: string;
  readonly allow: readonly AllowEntry[];
  readonly state: 'active' | 'under review';
  readonly mode: Mode;
  /** Milliseconds since the epoch. */
  readonly expiresAt?: number;
  readonly caps: CapsConfig & { readonly denials?: number; readonly denialsPerMinute?: number };
}

export type SecretSource =
  | { readonly kind: 'env'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string }
  /** Without a shell, outside every sandbox; prints the secret as its only line. */
  | { readonly kind: 'exec'; readonly program: string; readonly args: readonly string[] };

/** Where in a request a credential stands. */
export type CredentialPlace =
  /** `name` in lower case; `{}` in `format` stands for the value. */
  | { readonly kind: 'header'; readonly name: string; readonly format: string }
  | { readonly kind: 'query'; readonly key: string }
  | { readonly kind: 'basic'; readonly user: string }
  /** A member at the top of the body, JSON or form. */
  | { readonly kind: 'field'; readonly key: string };

export interface CredentialConfig {
  readonly name: string;
  readonly origin: string;
  readonly from: SecretSource;
  readonly environment: string;
  readonly host: Host;
  readonly port: number;
  /** Upper case. */
  readonly methods: readonly string[];
  readonly paths: readonly string[];
  readonly allowsPath: (path: string) => boolean;
  readonly place: CredentialPlace;
  /** Where the tokens belong that calls with it are answered with. */
  readonly mints?: {
    readonly hosts: readonly { readonly host: Host; readonly port: number }[];
    /** In lower case: members of an answer that hold one. */
    readonly keys: readonly string[];
  };
  /** Why a body is none that the credential may be used with; absent: any body. */
  readonly bodyFault?: (body: unknown) => string | undefined;
  readonly variable?: string;
}

/** What a policy sees of a member: an integer is a `long`. */
export type FieldType = 'long' | 'string' | 'boolean';

export interface FieldConfig {
  readonly type: FieldType;
  /** The keys that lead to it, from the top of the body. */
  readonly at: readonly string[];
}

/** Calls of one kind to a service of one's own, named so that policies can speak of them. */
export interface RouteConfig {
  readonly name: string;
  readonly host: Host;
  readonly port: number;
  /** Upper case. */
  readonly methods: readonly string[];
  readonly paths: readonly string[];
  /** Members of the body, by the names that they have in policies. */
  readonly fields: ReadonlyMap<string, FieldConfig>;
  /** What a run is marked with that was permitted such a call. */
  readonly taint?: string;
}

/** Where a name really goes, instead of what DNS says. */
export interface UpstreamConfig {
  readonly host: Host;
  /** An address, never a name. */
  readonly address: Host;
  readonly port: number;
  readonly scheme: 'http' | 'https';
  /** File of the authority that signs the upstream, as written. */
  readonly authorityFile?: string;
  /** Its certificates in PEM; present when the configuration came in a bundle. */
  readonly authority?: string;
}

export interface PolicyText {
  /** As people find it: `policies/web.cedar`. */
  readonly file: string;
  readonly text: string;
}

export interface Config {
  readonly file: string;
  readonly agents: ReadonlyMap<string, AgentConfig>;
  readonly environments: ReadonlyMap<string, EnvironmentConfig>;
  readonly grants: readonly GrantConfig[];
  readonly credentials: readonly CredentialConfig[];
  readonly routes: readonly RouteConfig[];
  readonly upstreams: ReadonlyMap<Host, UpstreamConfig>;
  /** Directory of the policy files, when the file names one. */
  readonly policyDirectory?: string;
  /** Texts of the policy files; empty unless the configuration came in a bundle. */
  readonly policies: readonly PolicyText[];
  readonly caps: CapsConfig;
}

/** A configuration that came with all its texts; the digest names them. */
export interface LoadedConfig extends Config {
  readonly digest: string;
}
