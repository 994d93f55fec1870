// Speaks to the daemon over its unix socket. One request, one answer; the two streams (a run's
// notices, the ledger's tail) are lines of JSON. Bounded in time except where a stream is meant
// to last.

import { request as httpRequest, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { BelayError, type ErrorCode } from '../core/errors.ts';
import type { Home } from './home.ts';

export interface Client {
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body: unknown): Promise<T>;
  /** Lines of an answer that stays open. Ends when the daemon closes it or is gone. */
  lines<T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<LineStream<T>>;
}

export interface LineStream<T> extends AsyncDisposable {
  readonly lines: AsyncIterable<T>;
}

const ANSWER_TIMEOUT_MS = 10_000;

export function connectControl(home: Home): Client {
  const send = (method: string, path: string, body?: unknown): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      const request = httpRequest({
        socketPath: home.controlSocket,
        method,
        path,
        headers: payload === undefined ? {} : { 'content-type': 'application/json' },
      });
      request.setTimeout(ANSWER_TIMEOUT_MS, () =>
        request.destroy(new BelayError('ERR_DAEMON', 'the daemon does not answer')),
      );
      request.on('response', (response) => {
        request.setTimeout(0);
        resolve(response);
      });
      request.on('error', (error) => reject(unreachableDaemon(error)));
      request.end(payload);
    });

  const answer = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await send(method, path, body);
    const parsed: unknown = JSON.parse((await text(response)) || 'null');
    if ((response.statusCode ?? 500) >= 400) throw errorFrom(parsed);
    return parsed as T;
  };

  return {
    get: (path) => answer('GET', path),
    post: (path, body) => answer('POST', path, body),
    async lines<T>(method: 'GET' | 'POST', path: string, body?: unknown) {
      const response = await send(method, path, body);
      if ((response.statusCode ?? 500) >= 400) throw errorFrom(JSON.parse(await text(response)));
      return {
        lines: parseLines<T>(response),
        [Symbol.asyncDispose]: async () => void response.destroy(),
      };
    },
  };
}

async function text(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

async function* parseLines<T>(response: IncomingMessage): AsyncGenerator<T> {
  try {
    for await (const line of createInterface({ input: response })) {
      if (line !== '') yield JSON.parse(line) as T;
    }
  } catch (error) {
    // A daemon that died resets the stream: the end of the lines, which the caller handles.
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
  }
}

function unreachableDaemon(error: Error): BelayError {
  if (error instanceof BelayError) return error;
  return new BelayError('ERR_DAEMON', 'no daemon is running for this home', {
    cause: error,
    hint: '`belay up` starts one; `belay run` does so by itself',
  });
}

function errorFrom(parsed: unknown): BelayError {
  const { error } = (parsed ?? {}) as {
    error?: { code?: string; message?: string; hint?: string };
  };
  return new BelayError(
    (error?.code ?? 'ERR_DAEMON') as ErrorCode,
    error?.message ?? 'the daemon gave no reason',
    error?.hint === undefined ? {} : { hint: error.hint },
  );
}
