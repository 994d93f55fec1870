// The whole of a small body at once, for an answer that has to be read before anyone sees a part of it.

import type { ByteSource, Headers } from '../core/call.ts';
import { BelayError, reasonOf } from '../core/errors.ts';

export type Gathered =
  | { readonly kind: 'whole'; readonly bytes: Buffer; readonly trailers: Headers | undefined }
  | { readonly kind: 'larger' }
  | { readonly kind: 'broken'; readonly why: string };

/** What is larger is broken off. */
export function gather(source: ByteSource, mostBytes: number): Promise<Gathered> {
  return new Promise((resolve) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    let larger = false;
    const flow = source.flow({
      write(chunk) {
        if (larger) return false;
        size += chunk.length;
        larger = size > mostBytes;
        if (!larger) {
          chunks.push(chunk);
          return true;
        }
        flow.abort(new BelayError('ERR_ABORTED', 'the answer is too large to be read'));
        resolve({ kind: 'larger' });
        return false;
      },
      end: (trailers) => resolve({ kind: 'whole', bytes: Buffer.concat(chunks), trailers }),
      fail: (error) => resolve({ kind: 'broken', why: reasonOf(error) }),
    });
  });
}

export function sourceOf(bytes: Uint8Array, trailers: Headers | undefined): ByteSource {
  return {
    flow(sink) {
      let next: 'bytes' | 'end' | 'nothing' = bytes.length > 0 ? 'bytes' : 'end';
      const go = (): void => {
        if (next === 'bytes') {
          next = 'end';
          if (!sink.write(bytes)) return;
        }
        // `write` may have ended it.
        if ((next as string) !== 'end') return;
        next = 'nothing';
        sink.end(trailers);
      };
      // Not in this turn: the caller does not hold the ByteFlow yet.
      queueMicrotask(go);
      return {
        resume: go,
        abort() {
          next = 'nothing';
        },
      };
    },
  };
}
