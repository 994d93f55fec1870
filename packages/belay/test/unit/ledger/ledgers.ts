// Ledgers for the tests: in a directory of their own, filled with ordinary entries, and rebuilt with
// a change that only the audit can find, because every frame is sealed again.

import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { onTestFinished } from 'vitest';
import { verifySegments } from '../../../src/core/audit.ts';
import type { Intent, Outcome } from '../../../src/core/entry.ts';
import {
  encodeHeader,
  FRAME_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  scanFrames,
  sealFrame,
  segmentName,
} from '../../../src/core/frame.ts';
import { type CallId, newRunId, type RunId, uuid7 } from '../../../src/core/ids.ts';
import { type OpenOptions, openLedger } from '../../../src/ledger/open.ts';
import { segmentFiles } from '../../../src/ledger/segment-files.ts';

export const SMALL_SEGMENT = 128 * 1024;
export const random = (sizeBytes: number): Uint8Array => randomBytes(sizeBytes);

export function freshDir(): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'belay-ledger-'));
  onTestFinished(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export function options(dir: string, more: Partial<OpenOptions> = {}): OpenOptions {
  return { dir, clock: Date.now, random, segmentBytes: SMALL_SEGMENT, ...more };
}

export const open = (dir: string, more: Partial<OpenOptions> = {}) =>
  openLedger(options(dir, more));

export const audit = (dir: string) => verifySegments(segmentFiles(dir));

export const newRun = (): RunId => newRunId(random);
export const newCall = (): CallId => uuid7(Date.now(), random) as CallId;

export const runOpen = (run: RunId) => ({
  type: 'run.open' as const,
  run,
  agent: 'claude',
  env: 'staging',
  mode: 'live' as const,
  containment: 'sandbox' as const,
  command: ['true'],
  workdir: '/work',
  uid: 1000,
  config: 'sha256:0',
  grants: [],
  paths: { read: [], write: [] },
  ports: [],
  caps: {},
});

export const runClose = (run: RunId) => ({
  type: 'run.close' as const,
  run,
  reason: 'the agent ended',
  calls: 0,
  denials: 0,
  bytes: 0,
});

export const intent = (run: RunId, call: CallId): Intent => ({
  type: 'intent',
  run,
  call,
  kind: 'http',
  agent: 'claude',
  env: 'staging',
  mode: 'live',
  method: 'GET',
  scheme: 'https',
  host: 'api.example.test',
  port: 443,
  path: '/v1/things',
  effect: 'read',
  reasons: ['method'],
  body: { kind: 'none' },
  policies: ['allow-things'],
  credentials: [],
  reserved: { calls: 1, bytes: 1024 },
});

export const outcome = (run: RunId, call: CallId): Outcome => ({
  type: 'outcome',
  run,
  call,
  status: 200,
  sentBytes: 100,
  receivedBytes: 1000,
  durationMs: 12,
});

export const state = (n: number) => ({ type: 'config.load' as const, detail: { n } });

export function segmentPath(dir: string, number: number): string {
  return path.join(dir, 'segments', segmentName(number));
}

export interface Placed {
  readonly offset: number;
  readonly nextOffset: number;
  readonly batchOffset: number;
  readonly payload: Uint8Array;
}

/** The frames of one segment, in order. */
export function framesOf(dir: string, number = 0): readonly Placed[] {
  const bytes = fs.readFileSync(segmentPath(dir, number));
  const frames: Placed[] = [];
  scanFrames(bytes, SEGMENT_HEADER_BYTES, (frame, offset) => frames.push({ ...frame, offset }));
  return frames;
}

/** A segment with these payloads, each written by a write of its own, or several by one. */
export function buildSegment(
  payloads: readonly (Uint8Array | string)[],
  { sizeBytes = SMALL_SEGMENT, number = 0, firstIndex = 0, perBatch = 1 } = {},
): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  bytes.set(encodeHeader(number, firstIndex));
  let end = SEGMENT_HEADER_BYTES;
  let batchOffset = 0;
  for (const [i, payload] of payloads.entries()) {
    if (i > 0 && i % perBatch === 0) batchOffset = end;
    const content = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;
    bytes.set(content, end + FRAME_HEADER_BYTES);
    end = sealFrame(bytes, end, content.length, batchOffset);
  }
  return bytes;
}

/** Changes bytes of a file in place. */
export function patch(file: string, at: number, change: (bytes: Buffer) => void): void {
  const bytes = fs.readFileSync(file);
  change(bytes.subarray(at));
  fs.writeFileSync(file, bytes);
}

export const flip = (bytes: Buffer): void => {
  bytes[0] = (bytes[0] as number) ^ 0x40;
};
