// The words of the door: what goes in, what comes out. A failure is a value, not an exception,
// because the intent is already written and the monitor has to settle it.

import type { CallBody, CallKind, Headers, Response } from '../core/call.ts';
import type { BelayError } from '../core/errors.ts';
import type { Target } from '../core/target.ts';
import type { DenyCode } from '../core/verdict.ts';

/** An upstream that the configuration names: where it really is, and whom to trust there. */
export interface DeclaredUpstream {
  /** `IP` or `IP:PORT` (`[IP]:PORT` for IPv6). May be any address, this host included. */
  readonly address: string;
  /** With `ca` (PEM), only that authority is trusted. */
  readonly tls?: { readonly ca?: string };
}

/** Keyed by `host:port` or `host`; the former wins. */
export type DeclaredUpstreams = ReadonlyMap<string, DeclaredUpstream>;

export interface UpstreamRequest {
  readonly kind: CallKind;
  readonly env: string;
  readonly target: Target;
  readonly method: string;
  /** Starts with a slash. */
  readonly pathAndQuery: string;
  /** `host` and hop-by-hop fields are not taken over. */
  readonly headers: Headers;
  readonly body: CallBody;
  readonly signal: AbortSignal;
  /** Asked when a connection is ours, before the first byte: why nothing may be sent any more. */
  readonly stopped: () => BelayError | undefined;
  readonly declared: DeclaredUpstreams;
}

export interface Failed {
  readonly kind: 'failed';
  readonly code: Extract<
    DenyCode,
    | 'address.refused'
    | 'address.unresolved'
    | 'upstream.unreachable'
    | 'upstream.tls'
    | 'upstream.broken'
    | 'stopped'
  >;
  /** For the ledger and the operator. */
  readonly reason: string;
}

export type SendResult = Response | Failed;

export function failed(code: Failed['code'], reason: string): Failed {
  return { kind: 'failed', code, reason };
}
