// The ledger's entries: what is written down, in which shape. Every entry has `v`, `type`, `id`,
// `index` and `ts`; one that belongs to a run has `run` and `seq`, which counts that run's entries
// from 1 without a gap. Bodies and secrets are never in an entry.

import type { CallKind, EffectClass, Mode } from './call.ts';
import type { CallId, EntryId, RunId } from './ids.ts';
import type { GitService, RefChange } from './push.ts';
import type { Scheme } from './target.ts';
import type { DenyCode, Step, Told } from './verdict.ts';

export const ENTRY_VERSION = 1;

export interface CallHead {
  readonly call: CallId;
  readonly kind: CallKind;
  readonly agent: string;
  readonly env: string;
  readonly mode: Mode;
  readonly method: string;
  readonly scheme: Scheme;
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** Names of the query's keys; values may be secret and are left out. */
  readonly queryKeys?: readonly string[];
  readonly effect: EffectClass;
  readonly reasons: readonly string[];
  readonly body: {
    readonly kind: 'none' | 'buffered' | 'streamed';
    readonly sizeBytes?: number;
    readonly sha256?: string;
  };
  readonly retryOf?: CallId;
  /** What a git client is about to do, when it asks for the refs of a repository. */
  readonly service?: GitService;
  /** Of a git push that was read: each ref that it would change. */
  readonly push?: {
    readonly repository: string;
    readonly refs: readonly RefChange[];
    /** Left out of `refs`, in a denial. */
    readonly more?: number;
  };
}

/** Written before the effect (I2). */
export interface Intent extends CallHead {
  readonly type: 'intent';
  readonly run: RunId;
  readonly policies: readonly string[];
  /** Names of the credentials that are injected; never their values. */
  readonly credentials: readonly string[];
  readonly reserved: { readonly calls: number; readonly bytes: number };
}

/** A further slice of the reservation of an open intent; written before its bytes pass. */
export interface IntentExtended {
  readonly type: 'intent.extended';
  readonly run: RunId;
  readonly call: CallId;
  /** Reserved for the call from now on, in all. */
  readonly bytes: number;
}

/** A refused call, with what the agent was told. */
export interface DenialEntry extends CallHead {
  readonly type: 'denial';
  readonly run: RunId;
  readonly step: Step;
  readonly code: DenyCode;
  readonly reason: string;
  readonly policies: readonly string[];
  readonly told: Told;
}

/** What became of an intent. */
export interface Outcome {
  readonly type: 'outcome';
  readonly run: RunId;
  readonly call: CallId;
  readonly status?: number;
  readonly error?: { readonly code: string; readonly reason: string };
  readonly sentBytes: number;
  readonly sentSha256?: string;
  readonly receivedBytes: number;
  readonly receivedSha256?: string;
  /** Names of the credentials whose values the upstream sent back. */
  readonly redacted?: readonly string[];
  /** Names of the credentials that were taken from the answer into the vault. */
  readonly minted?: readonly string[];
  readonly durationMs: number;
}

/** Written by recovery for an intent that has no outcome: whether the effect happened is unknown. */
export interface OutcomeUnknown {
  readonly type: 'outcome.unknown';
  readonly run: RunId;
  readonly call: CallId;
  readonly intentIndex: number;
}

export interface RunOpen {
  readonly type: 'run.open';
  readonly run: RunId;
  /** The run that it is a part of. */
  readonly parent?: RunId;
  readonly agent: string;
  readonly env: string;
  readonly mode: Mode;
  readonly containment: 'sandbox' | 'external';
  readonly command: readonly string[];
  readonly workdir: string;
  readonly uid: number;
  readonly config: string;
  readonly grants: readonly string[];
  /** When its grant ends; absent: with the run. */
  readonly expiresAt?: number;
  /** Of the agent's own servers, on the loopback of the host. */
  readonly ports: readonly { readonly host: number; readonly inside: number }[];
  /** Of the host, opened to the agent beyond its workspace. */
  readonly paths: { readonly read: readonly string[]; readonly write: readonly string[] };
  /** Of its user, which the agent holds placeholders of: the agent's name in its profile. */
  readonly login?: string;
  readonly caps: {
    readonly calls?: number;
    readonly bytes?: number;
    readonly denials?: number;
    readonly denialsPerMinute?: number;
  };
}

export interface RunClose {
  readonly type: 'run.close';
  readonly run: RunId;
  readonly reason: string;
  readonly status?: number;
  readonly calls: number;
  readonly denials: number;
  readonly bytes: number;
  /** What the run did to files that someone else executes or obeys, paths in the workspace. Absent:
   * nobody looked. */
  readonly changes?: readonly {
    readonly path: string;
    readonly how: 'added' | 'changed' | 'removed';
  }[];
  /** Of all changes, listed or not. */
  readonly changeCount?: number;
  /** Folders that were not searched for changes. */
  readonly unwalked?: number;
}

/** What the probe of a run's sandbox found to hold, signed by the installation. The signature is over
 * the canonical JSON of the members before it. */
export interface SandboxCertificate {
  readonly type: 'sandbox.certificate';
  readonly run: RunId;
  readonly checks: readonly string[];
  readonly host: Readonly<Record<string, string>>;
  /** SHA-256 of the public key (SPKI, DER), hexadecimal. */
  readonly key: string;
  /** Ed25519, base64. */
  readonly signature: string;
}

/** Something that a run tried below HTTP and that was refused: a DNS query of a kind that we do not
 * answer, a raw connection, bytes that are not the protocol. */
export interface NetDenial {
  readonly type: 'net.denial';
  readonly run: RunId;
  readonly host: string;
  readonly port: number;
  readonly reason: string;
}

/** A name that a run asked for, the first time: it was answered with an address of nobody, and could
 * itself carry data. */
export interface NetName {
  readonly type: 'net.name';
  readonly run: RunId;
  readonly name: string;
  /** As in DNS: 1 is an address. */
  readonly qtype: number;
}

/** A change of Belay's own state. */
export interface StateEntry {
  readonly type:
    | 'daemon.start'
    | 'daemon.stop'
    | 'ledger.recovered'
    | 'config.load'
    | 'grant.expired'
    | 'guard.acknowledged'
    | 'guard.lost'
    | 'guard.frozen'
    | 'guard.thawed'
    | 'mask.lost'
    | 'ca.import'
    | 'ca.remove'
    | 'stop.set'
    | 'stop.lifted';
  readonly run?: RunId;
  readonly detail: { readonly [key: string]: string | number | boolean | readonly string[] };
}

export type EntryBody =
  | Intent
  | IntentExtended
  | DenialEntry
  | Outcome
  | OutcomeUnknown
  | RunOpen
  | RunClose
  | SandboxCertificate
  | NetDenial
  | NetName
  | StateEntry;

/** An entry as it stands in the ledger. */
export type Entry = EntryBody & {
  readonly v: typeof ENTRY_VERSION;
  readonly id: EntryId;
  /** Position in the ledger, from 0. */
  readonly index: number;
  /** Milliseconds since the epoch. */
  readonly ts: number;
  /** Position among the run's entries, from 1. */
  readonly seq?: number;
};
