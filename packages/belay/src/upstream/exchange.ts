// One request and its answer on an upstream connection, on undici's low-level handler. The answer's
// bytes wait here, at most HOLD_BYTES of them, until `flow` is called and whenever the sink asks to
// wait. Whatever ends the exchange ends it once: no byte, end or failure reaches the sink after.
// Nothing is retried, redirected or decoded.

import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import type { ByteFlow, ByteSink, Headers } from '../core/call.ts';
import { BelayError } from '../core/errors.ts';
import { errorOf, failedBy } from './failure.ts';
import { answerHeaders, isHopByHop } from './hop-by-hop.ts';
import { failed, type SendResult, type UpstreamRequest } from './request.ts';

/** How much of an answer may arrive before anyone asked for it. */
const HOLD_BYTES = 64 * 1024;

/** Sends a request through a pool. `ended` is called once, when the upstream's part is over. */
export function exchange(
  pool: Dispatcher,
  request: UpstreamRequest,
  ended: () => void,
): Promise<SendResult> {
  const { signal, stopped, target } = request;
  return new Promise((resolve) => {
    let controller: Dispatcher.DispatchController | undefined;
    let sink: ByteSink | undefined;
    const held: Uint8Array[] = [];
    let heldBytes = 0;
    let responded = false;
    let waiting = true;
    let complete = false;
    let trailers: Headers | undefined;
    let broken: BelayError | undefined;
    let open = true;
    let closed = false;

    const finish = (): void => {
      if (!open) return;
      open = false;
      signal.removeEventListener('abort', onAbort);
      ended();
    };

    const pump = (): void => {
      if (closed || sink === undefined) return;
      waiting = false;
      while (held.length > 0) {
        const chunk = held.shift() as Uint8Array;
        heldBytes -= chunk.length;
        const more = sink.write(chunk);
        if (closed) return;
        if (!more) {
          waiting = true;
          return;
        }
      }
      if (broken !== undefined) {
        closed = true;
        sink.fail(broken);
      } else if (complete) {
        closed = true;
        sink.end(trailers);
      } else {
        controller?.resume();
      }
    };

    const flow = (to: ByteSink): ByteFlow => {
      if (sink !== undefined) throw new TypeError('a body flows once');
      sink = to;
      // Not in this turn: the caller does not hold the ByteFlow yet.
      queueMicrotask(pump);
      return {
        resume: pump,
        abort(error) {
          if (closed) return;
          closed = true;
          held.length = 0;
          controller?.abort(error);
          finish();
        },
      };
    };

    const breakOff = (error: BelayError): void => {
      broken ??= error;
      finish();
      if (sink !== undefined) pump();
    };

    function onAbort(): void {
      const gone = new BelayError('ERR_ABORTED', 'the client went away');
      if (!responded) {
        responded = true;
        closed = true;
        resolve(failed('upstream.broken', gone.message));
        finish();
      } else {
        held.length = 0;
        breakOff(gone);
      }
      controller?.abort(gone);
    }

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(started) {
        controller = started;
        // INVARIANT: I4: the client may have left, or a stop landed, while the request waited for its
        // connection.
        const why = open ? stopped() : new BelayError('ERR_ABORTED', 'the client went away');
        if (why !== undefined) started.abort(why);
      },
      onResponseStart(current, status) {
        if (status < 200 || responded) return;
        responded = true;
        const headers = answerHeaders(current.rawHeaders as readonly Buffer[]);
        resolve({ kind: 'response', status, headers, body: { flow } });
      },
      onResponseData(current, chunk) {
        if (closed) return;
        if (sink !== undefined && !waiting) {
          if (sink.write(chunk)) return;
          waiting = true;
          current.pause();
          return;
        }
        held.push(chunk);
        heldBytes += chunk.length;
        if (heldBytes >= HOLD_BYTES) current.pause();
      },
      onResponseEnd(_current, found) {
        complete = true;
        trailers = trailersOf(found);
        finish();
        if (sink !== undefined && !waiting) pump();
      },
      onResponseError(_current, error) {
        const value = failedBy(error, controller !== undefined, target.host);
        if (responded) return breakOff(errorOf(value));
        responded = true;
        closed = true;
        finish();
        resolve(value);
      },
    };

    signal.addEventListener('abort', onAbort, { once: true });
    pool.dispatch(
      {
        method: request.method,
        path: request.pathAndQuery,
        headers: requestHeaders(request),
        body: bodyOf(request),
      },
      handler,
    );
  });
}

function bodyOf({ body }: UpstreamRequest): Buffer | null {
  switch (body.kind) {
    case 'none':
      return null;
    case 'buffered': {
      const { buffer, byteOffset, byteLength } = body.bytes;
      return Buffer.isBuffer(body.bytes) ? body.bytes : Buffer.from(buffer, byteOffset, byteLength);
    }
    case 'streamed':
      // undici takes any async iterable; its types name only a few.
      return body.source as unknown as Buffer;
  }
}

/** Names and values in a row, as undici takes them; it writes `host` and the framing itself. */
function requestHeaders({ headers, body }: UpstreamRequest): string[] {
  const out: string[] = [];
  for (const [name, value] of headers) {
    if (name === 'host' || name === 'expect' || isHopByHop(name)) continue;
    if (name === 'content-length' && body.kind !== 'streamed') continue;
    out.push(name, value);
  }
  return out;
}

/** Undefined when there are none, as nearly always. */
function trailersOf(found: IncomingHttpHeaders | undefined): Headers | undefined {
  const trailers = Object.entries(found ?? {}).flatMap(([name, value = []]) =>
    [value].flat().map((one) => [name, one] as const),
  );
  return trailers.length === 0 ? undefined : trailers;
}
