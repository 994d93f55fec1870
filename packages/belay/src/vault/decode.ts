// The body of an answer without its content coding, for an upstream that uses one though it was asked for
// none: what is looked into has to be what the agent gets.

import type { Transform } from 'node:stream';
import {
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
  type Zlib,
} from 'node:zlib';
import type { ByteSource } from '../core/call.ts';
import { BelayError } from '../core/errors.ts';

export type Decoder = () => Transform & Zlib;

const DECODERS: ReadonlyMap<string, Decoder> = new Map<string, Decoder>([
  ['gzip', createGunzip],
  ['x-gzip', createGunzip],
  ['deflate', createInflate],
  ['br', createBrotliDecompress],
  ['zstd', createZstdDecompress],
]);

/** By the value of `content-encoding`; undefined for one that cannot be undone. */
export function decoderOf(coding: string): Decoder | undefined {
  return DECODERS.get(coding.trim().toLowerCase());
}

/** Decodes as the bytes come, with back-pressure both ways. */
export function decoded(source: ByteSource, decoder: Decoder): ByteSource {
  return {
    flow(sink) {
      const plain = decoder();
      let over = false;
      let trailers: Parameters<typeof sink.end>[0];
      const coded = source.flow({
        write: (chunk) => plain.write(chunk),
        end(found) {
          trailers = found;
          plain.end();
        },
        fail(error) {
          over = true;
          plain.destroy();
          sink.fail(error);
        },
      });
      plain.on('drain', () => coded.resume());
      plain.on('data', (chunk: Buffer) => {
        if (!over && !sink.write(chunk)) plain.pause();
      });
      plain.once('end', () => {
        if (!over) sink.end(trailers);
      });
      plain.once('error', (cause) => {
        if (over) return;
        over = true;
        const error = new BelayError('ERR_UPSTREAM', 'the answer is not in the coding it names', {
          cause,
        });
        coded.abort(error);
        sink.fail(error);
      });
      return {
        resume: () => void plain.resume(),
        abort(error) {
          over = true;
          plain.destroy();
          coded.abort(error);
        },
      };
    },
  };
}
