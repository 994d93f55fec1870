// A request's body, as the monitor needs it: of at most 1 MiB in memory with its digest, larger or
// while the run already holds much in memory as a stream that moves only when it is read.

import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { CallBody } from '../../core/call.ts';
import { BelayError } from '../../core/errors.ts';
import type { Attachment } from '../connection.ts';
import { bytesOf, clientLeft } from '../flow.ts';
import { TRAILERS } from './head.ts';

export const BUFFER_BYTES = 1 << 20;
/** What the bodies of one run may take of our memory together. */
const RUN_BUFFER_BYTES = 64 << 20;

export interface ReadBody {
  readonly body: CallBody;
  /** Counted in `attachment.bufferedBytes` until the caller takes it off. */
  readonly heldBytes: number;
  /** What a streamed body begins with, when that was asked for. */
  readonly first?: Buffer;
}

export const NO_BODY: ReadBody = { body: { kind: 'none' }, heldBytes: 0 };

/**
 * Reads a body whose head said `bodyBytes` (undefined: chunked). `proceed` tells a client that
 * waits for it to send. Of one that is streamed `firstBytes`, or all of it, are read and kept first,
 * unless the run already holds as much as it may.
 * Rejects with ERR_ABORTED when the client leaves, and with ERR_PROTOCOL for trailers behind it; a
 * streamed one breaks off with them.
 */
export function readBody(
  request: IncomingMessage,
  bodyBytes: number | undefined,
  attachment: Attachment,
  proceed: () => void,
  firstBytes = 0,
): Promise<ReadBody> {
  // What the others of the run hold is asked whenever something arrives: many may start together.
  const full = (): boolean => attachment.bufferedBytes > RUN_BUFFER_BYTES;
  const large = bodyBytes !== undefined && bodyBytes > BUFFER_BYTES;
  if ((firstBytes === 0 && large) || full()) {
    const body: CallBody = { kind: 'streamed', source: stream([], request, proceed) };
    return Promise.resolve({ body, heldBytes: 0 });
  }
  proceed();
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const stop = (): void => {
      request.off('data', onData).off('end', onEnd).off('error', onGone);
    };
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      size += chunk.length;
      attachment.bufferedBytes += chunk.length;
      const enough = full() || (size > firstBytes && (large || size > BUFFER_BYTES));
      if (!enough) return;
      stop();
      request.pause();
      const first = firstBytes > 0 && size > firstBytes ? Buffer.concat(chunks, size) : undefined;
      const begun = first === undefined ? chunks : [first];
      const body: CallBody = { kind: 'streamed', source: stream(begun, request, () => {}) };
      resolve({ body, heldBytes: size, ...(first === undefined ? {} : { first }) });
    };
    const onEnd = (): void => {
      stop();
      if (request.rawTrailers.length > 0) {
        attachment.bufferedBytes -= size;
        reject(trailing());
        return;
      }
      if (size === 0) {
        resolve(NO_BODY);
        return;
      }
      const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, size);
      const body: CallBody = { kind: 'buffered', bytes, sha256: hash('sha256', bytes) };
      resolve({ body, heldBytes: size });
    };
    const onGone = (): void => {
      stop();
      attachment.bufferedBytes -= size;
      reject(clientLeft());
    };
    request.on('data', onData).on('end', onEnd).on('error', onGone);
  });
}

async function* stream(
  first: Buffer[],
  request: IncomingMessage,
  proceed: () => void,
): AsyncGenerator<Uint8Array> {
  proceed();
  for (let chunk = first.shift(); chunk !== undefined; chunk = first.shift()) yield chunk;
  yield* bytesOf(request);
  if (request.rawTrailers.length > 0) throw trailing();
}

function trailing(): BelayError {
  return new BelayError('ERR_PROTOCOL', TRAILERS);
}
