// A Call is one attempted effect, in the one shape that the monitor judges, whatever the protocol
// that carried it. Adapters build it and take the Result; they hold no upstream socket (I1).

import type { BelayError } from './errors.ts';
import type { CallId, RunId } from './ids.ts';
import type { Push, UnreadablePush } from './push.ts';
import type { Target } from './target.ts';
import type { Denial } from './verdict.ts';

/**
 * A WebSocket is a GET whose connection stays: what the client sends on it is the call's body, what
 * comes back is the body of a 101. A tunnel is a connection that nobody looks into.
 */
export type CallKind = 'http' | 'llm' | 'websocket' | 'tunnel';
export type EffectClass = 'read' | 'write' | 'irreversible';
export type Mode = 'live' | 'shadow';

/** Header fields in their order; names in lower case, values as received (latin1). */
export type Headers = readonly (readonly [name: string, value: string])[];

/** A body of at most 1 MiB is buffered, and its digest is in the intent; a larger one flows. */
export type CallBody =
  | { readonly kind: 'none' }
  | { readonly kind: 'buffered'; readonly bytes: Uint8Array; readonly sha256: string }
  | { readonly kind: 'streamed'; readonly source: AsyncIterable<Uint8Array> };

export interface Call {
  readonly id: CallId;
  readonly run: RunId;
  readonly kind: CallKind;
  readonly target: Target;
  /** Upper case; CONNECT for a tunnel. */
  readonly method: string;
  /** Absolute, normalised: no dot segments, no encoded slash; without the query. Of a tunnel: `/`. */
  readonly path: string;
  /** Without the question mark; empty when there is none. */
  readonly query: string;
  readonly headers: Headers;
  readonly body: CallBody;
  /** Of a push over git's smart HTTP. */
  readonly push?: Push | UnreadablePush;
  /** The call that this one repeats: same run, method, target and body digest within 10 minutes. */
  readonly retryOf?: CallId;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

/** Takes bytes. `write` answers false when the source has to wait for `resume`, with its end too. */
export interface ByteSink {
  write(chunk: Uint8Array): boolean;
  end(trailers?: Headers): void;
  fail(error: BelayError): void;
}

export interface ByteFlow {
  resume(): void;
  abort(error: BelayError): void;
}

/** A response's body: nothing moves until `flow` is called, which happens exactly once. */
export interface ByteSource {
  flow(sink: ByteSink): ByteFlow;
}

export interface Response {
  readonly kind: 'response';
  readonly status: number;
  readonly headers: Headers;
  readonly body: ByteSource;
}

/** What `perform` returns; a refusal is a value. */
export type Result = Response | { readonly kind: 'denied'; readonly denial: Denial };
