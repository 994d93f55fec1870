// An entry's bytes: RFC 8785 canonical JSON in UTF-8, so that one entry has one digest. The two
// entries of every permitted call are written by JSON.stringify from objects whose members stand in
// canonical order already. Reading checks the members that every entry has, and nothing else; whether
// the bytes are the canonical ones is asked by the audit, with isCanonical(), which sorts for itself.

import { canonical, type Json } from './canonical.ts';
import { ENTRY_VERSION, type Entry, type Intent, type Outcome } from './entry.ts';
import { reasonOf } from './errors.ts';

export type EntryRead =
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'bad'; readonly reason: string };

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The canonical bytes. Throws a TypeError for what JSON cannot hold, such as a lone surrogate. */
export function encodeEntry(entry: Entry): Uint8Array {
  return Buffer.from(textOf(entry));
}

function textOf(entry: Entry): string {
  let text: string;
  if (entry.type === 'intent') text = JSON.stringify(sortedIntent(entry));
  else if (entry.type === 'outcome') text = JSON.stringify(sortedOutcome(entry));
  else return canonical(entry as unknown as Json);
  // Where canonical() throws, JSON.stringify writes `null` or an escaped surrogate. Neither is in an
  // entry, unless as a text that only looks like it.
  if (text.includes('null') || text.includes('\\ud')) return canonical(entry as unknown as Json);
  return text;
}

/** Every member by name, so that one which is forgotten does not compile; undefined is left out. */
type Whole<T> = T extends string | number | readonly string[] | undefined
  ? T
  : {
      readonly [K in keyof T]-?: Whole<T[K]> | (object extends Pick<T, K> ? undefined : never);
    };
type Placed<T> = Extract<Entry, T>;
type Pushed = NonNullable<Intent['push']>;

// INVARIANT: members in the order of their UTF-16 code units (RFC 8785 section 3.2.3).
function sortedIntent(e: Placed<Intent>): Whole<Placed<Intent>> {
  const { kind, sha256, sizeBytes } = e.body;
  const { bytes, calls } = e.reserved;
  return {
    agent: e.agent,
    body: { kind, sha256, sizeBytes },
    call: e.call,
    credentials: e.credentials,
    effect: e.effect,
    env: e.env,
    host: e.host,
    id: e.id,
    index: e.index,
    kind: e.kind,
    method: e.method,
    mode: e.mode,
    path: e.path,
    policies: e.policies,
    port: e.port,
    push: e.push && sortedPush(e.push),
    queryKeys: e.queryKeys,
    reasons: e.reasons,
    reserved: { bytes, calls },
    retryOf: e.retryOf,
    run: e.run,
    scheme: e.scheme,
    seq: e.seq,
    service: e.service,
    ts: e.ts,
    type: e.type,
    v: e.v,
  };
}

function sortedPush(e: Pushed): Whole<Pushed> {
  return {
    more: e.more,
    refs: e.refs.map((r) => ({ change: r.change, new: r.new, old: r.old, ref: r.ref })),
    repository: e.repository,
  };
}

function sortedOutcome(e: Placed<Outcome>): Whole<Placed<Outcome>> {
  const { error } = e;
  return {
    call: e.call,
    durationMs: e.durationMs,
    error: error && { code: error.code, reason: error.reason },
    id: e.id,
    index: e.index,
    minted: e.minted,
    receivedBytes: e.receivedBytes,
    receivedSha256: e.receivedSha256,
    redacted: e.redacted,
    run: e.run,
    sentBytes: e.sentBytes,
    sentSha256: e.sentSha256,
    seq: e.seq,
    status: e.status,
    ts: e.ts,
    type: e.type,
    v: e.v,
  };
}

export function decodeEntry(payload: Uint8Array): EntryRead {
  let value: Record<string, unknown> | null;
  try {
    value = JSON.parse(decoder.decode(payload));
  } catch (error) {
    return { kind: 'bad', reason: `not JSON: ${reasonOf(error)}` };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { kind: 'bad', reason: 'not a JSON object' };
  }
  const { v, type, id, index, ts, run, seq } = value;
  if (!isCount(v)) return { kind: 'bad', reason: '`v` is not a version' };
  if (v > ENTRY_VERSION) return { kind: 'newer', version: v };
  if (v !== ENTRY_VERSION) return { kind: 'bad', reason: `version ${v} is unknown` };
  if (typeof type !== 'string') return { kind: 'bad', reason: '`type` is not a string' };
  if (typeof id !== 'string') return { kind: 'bad', reason: '`id` is not a string' };
  if (!isCount(index)) return { kind: 'bad', reason: '`index` is not a position' };
  if (!isCount(ts)) return { kind: 'bad', reason: '`ts` is not a time' };
  if (run !== undefined && typeof run !== 'string') {
    return { kind: 'bad', reason: '`run` is not a string' };
  }
  if ((run === undefined) !== (seq === undefined) || (seq !== undefined && !isCount(seq))) {
    return { kind: 'bad', reason: '`seq` is not the position in a run' };
  }
  return { kind: 'entry', entry: value as unknown as Entry };
}

/** Whether these are the one canonical form of what they say: same keys, order, numbers, escapes. */
export function isCanonical(payload: Uint8Array, entry: Entry): boolean {
  let bytes: Uint8Array;
  try {
    bytes = Buffer.from(canonical(entry as unknown as Json));
  } catch {
    return false; // valid JSON that I-JSON refuses, such as an escaped lone surrogate
  }
  if (bytes.length !== payload.length) return false;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== payload[i]) return false;
  return true;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
