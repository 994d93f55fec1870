// The control API's messages: what a launcher or an operator may say to the daemon, parsed once,
// strictly. The socket is 0600; whoever can open it is the operator of this home.

import { z } from 'zod';
import { isRunId, type RunId } from '../core/ids.ts';

export const PROTOCOL_VERSION = 1;

const runId = z
  .string()
  .refine(isRunId, 'not a run')
  .transform((text) => text as RunId);
const count = z.number().int().nonnegative();
const text = (most: number) => z.string().max(most);

/** Where an agent runs: in Belay's sandbox, or in nothing, with the explicit proxy as its way out. */
export const containment = z.enum(['sandbox', 'external']);
export type Containment = z.infer<typeof containment>;

const token = text(16_384);
/** Of a login that the agent's user has, with their values, or with placeholders. */
const loginTokens = z.strictObject({
  access: token,
  refresh: token,
  idToken: token.exactOptional(),
  /** Milliseconds since the epoch. */
  expiresAt: z.number().nonnegative().exactOptional(),
});
export type LoginTokens = z.infer<typeof loginTokens>;

export const openRun = z.strictObject({
  v: z.literal(PROTOCOL_VERSION),
  /** The run that this one is to be a part of. */
  parent: runId.optional(),
  /** The grant is over after so long. */
  forMs: count.min(1).optional(),
  agent: text(200).optional(),
  environment: text(200).optional(),
  allow: z.array(text(500)).max(100),
  shadow: z.boolean(),
  /** Of the agent's own servers, on the loopback of the host. */
  ports: z.array(z.strictObject({ host: count.max(65_535), inside: count.max(65_535) })).max(32),
  /** Of the host, opened to the agent by the user's own words. */
  paths: z.strictObject({
    read: z.array(text(4096)).max(100),
    write: z.array(text(4096)).max(100),
  }),
  containment,
  caps: z.strictObject({
    calls: count.exactOptional(),
    bytes: count.exactOptional(),
    denials: count.exactOptional(),
  }),
  command: z.array(text(100_000)).min(1).max(1000),
  workdir: text(4096),
  uid: count,
  pid: count,
  bundle: z.unknown(),
  /** Values by credential name, read once by the launcher, for this run only. */
  secrets: z.record(text(200), text(65_536)),
  /** How the user is signed in with the agent, when the run is to be as well. */
  login: z
    .strictObject({
      /** Of the profile's login. */
      agent: text(100),
      file: text(4096),
      tokens: loginTokens,
      scopes: z.array(text(200)).max(64),
    })
    .exactOptional(),
});
export type OpenRun = z.infer<typeof openRun>;

/** What the launcher needs to build the sandbox. */
export interface OpenedRun {
  readonly kind: 'opened';
  readonly run: RunId;
  readonly agent: string;
  readonly environment: string;
  readonly mode: 'live' | 'shadow';
  readonly trustDir: string;
  /** For an agent outside: the one way that it is meant to take, with what lets it in. */
  readonly proxy?: { readonly host: string; readonly port: number; readonly token: string };
  readonly variables: Readonly<Record<string, string>>;
  /** What the agent finds in the place of its user's tokens. */
  readonly login?: LoginTokens;
}

/** To the launcher, about its user's login file: to be answered by the ticket. */
export type LoginNotice = { readonly kind: 'login'; readonly ticket: number } & (
  | { readonly ask: 'read' }
  /** In the place of any of what was spent. */
  | { readonly ask: 'write'; readonly spent: readonly string[]; readonly tokens: LoginTokens }
);

/** Lines that follow on the run's stream. */
export type RunNotice =
  | OpenedRun
  | { readonly kind: 'stopped'; readonly state: string; readonly reason: string }
  | LoginNotice
  | { readonly kind: 'paused'; readonly reason: string; readonly forMs: number }
  | { readonly kind: 'expired'; readonly reason: string }
  | {
      readonly kind: 'failed';
      readonly code: string;
      readonly message: string;
      readonly hint?: string;
    };

const guardedRun = z.strictObject({
  holder: count,
  agentNet: count,
  child: count,
  cgroup: text(4096).nullable(),
});
export type GuardedRun = z.infer<typeof guardedRun>;

/** A sandbox that stands: its processes, and what its probe found to hold. */
export const standingRun = guardedRun.extend({
  probe: z.strictObject({
    checks: z.array(text(100)).min(1).max(100),
    host: z.record(text(100), text(500)),
  }),
});
export type StandingRun = z.infer<typeof standingRun>;

/** Masks that a program outside took away from a standing sandbox. */
export const lostMasks = z.strictObject({
  lost: z
    .array(z.strictObject({ path: text(4096), forMs: count, restored: z.boolean() }))
    .min(1)
    .max(2000),
});
export type LostMasks = z.infer<typeof lostMasks>;

export const MOST_CHANGES = 200;
/** As JSON: what is left of an entry is more than the rest of it can take. */
export const MOST_CHANGES_BYTES = 32 << 10;

/** What the run did to files that someone else executes or obeys. */
const changes = z.strictObject({
  changes: z
    .array(z.strictObject({ path: text(4096), how: z.enum(['added', 'changed', 'removed']) }))
    .max(MOST_CHANGES)
    .refine((list) => Buffer.byteLength(JSON.stringify(list)) <= MOST_CHANGES_BYTES, 'too long'),
  /** Of all, listed or not. */
  changeCount: count,
  /** Folders that there was no time to look into at the end. */
  unwalked: count,
});
export type Changes = z.infer<typeof changes>;

export const MOST_REASON = 500;

export const closeRun = z.strictObject({
  status: count.max(255).optional(),
  reason: text(MOST_REASON),
  /** Absent: nobody looked. */
  changes: changes.optional(),
});
export type CloseRun = z.infer<typeof closeRun>;

export const loginAnswer = z.strictObject({
  ticket: count,
  /** What was read. */
  tokens: loginTokens.exactOptional(),
  failed: text(MOST_REASON).exactOptional(),
});
export type LoginAnswer = z.infer<typeof loginAnswer>;

export const killRuns = z.strictObject({
  run: runId.optional(),
  all: z.boolean().optional(),
  reason: text(500),
});

export const importRoots = z.strictObject({ pem: text(1 << 20) });
export const removeRoot = z.strictObject({ fingerprint: text(200) });

/** A denial as the summary shows it: how often, and the flag that would have allowed it. */
export interface DeniedLine {
  readonly host: string;
  readonly port: number;
  readonly method: string;
  readonly code: string;
  readonly count: number;
  readonly remedy: string | null;
}

export interface RunSummary extends Changes {
  readonly run: RunId;
  readonly agent: string;
  readonly environment: string;
  readonly mode: 'live' | 'shadow';
  readonly calls: number;
  readonly denials: number;
  readonly denied: readonly DeniedLine[];
  readonly bytes: number;
  readonly durationMs: number;
  readonly firstCallMs: number | null;
  readonly ledgerIndex: number;
}

export interface DaemonStatus {
  readonly v: typeof PROTOCOL_VERSION;
  readonly pid: number;
  readonly version: string;
  readonly startedAt: number;
  readonly ledger: { readonly entries: number; readonly state: string };
  readonly guard: 'acknowledged' | 'lost';
  readonly runs: readonly RunRow[];
}

export interface RunRow {
  readonly run: RunId;
  readonly parent: RunId | null;
  readonly agent: string;
  readonly environment: string;
  readonly mode: 'live' | 'shadow';
  readonly containment: Containment;
  readonly state: string;
  readonly startedAt: number;
  readonly calls: number;
  readonly denials: number;
  readonly bytes: number;
  readonly command: readonly string[];
}
