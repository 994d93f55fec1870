// An entry's bytes: RFC 8785 canonical JSON in UTF-8, so that one entry has one digest. Reading checks
// the members that every entry has, and nothing else; whether the bytes are the canonical ones is
// asked by the audit, with isCanonical().

import { canonical, type Json } from './canonical.ts';
import { ENTRY_VERSION, type Entry } from './entry.ts';
import { reasonOf } from './errors.ts';

export type EntryRead =
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'newer'; readonly version: number }
  | { readonly kind: 'bad'; readonly reason: string };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The canonical bytes. Throws a TypeError for what JSON cannot hold, such as a lone surrogate. */
export function encodeEntry(entry: Entry): Uint8Array {
  return encoder.encode(canonical(entry as unknown as Json));
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
    bytes = encodeEntry(entry);
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
