// Reads the beginning of a client's bytes without taking them from whoever comes next. After a peek
// the socket is paused and its bytes are back in its buffer: a TLSSocket reads them from there by
// itself, an HTTP server after `resume`.

import type { Socket } from 'node:net';

export type Ended = 'closed' | 'silent';

/** Calls `done` once with everything up to the first newline, or with why there is none. */
export function readLine(
  socket: Socket,
  maxBytes: number,
  timeoutMs: number,
  done: (line: string | undefined) => void,
): void {
  let seen: Buffer = Buffer.alloc(0);
  watch(socket, timeoutMs, (chunk) => {
    if (typeof chunk === 'string') return done(undefined);
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const newline = seen.subarray(0, maxBytes).indexOf(0x0a);
    if (newline !== -1) {
      const rest = seen.subarray(newline + 1);
      if (rest.length > 0) socket.unshift(rest);
      return done(seen.toString('utf8', 0, newline));
    }
    if (seen.length >= maxBytes) return done(undefined);
    return 'more';
  });
}

/** Calls `done` once with the first bytes, which stay in the socket, or with why there are none. */
export function peek(
  socket: Socket,
  timeoutMs: number,
  done: (first: Buffer | Ended) => void,
): void {
  watch(socket, timeoutMs, (chunk) => {
    if (typeof chunk !== 'string') socket.unshift(chunk);
    done(chunk);
  });
}

/**
 * Shows `judge` all that has arrived, or why no more will, until it knows what to do; that is done
 * when all of it is in the socket again.
 */
export function peekUntil(
  socket: Socket,
  timeoutMs: number,
  judge: (seen: Buffer | Ended) => 'more' | (() => void),
): void {
  let seen: Buffer = Buffer.alloc(0);
  watch(socket, timeoutMs, (chunk) => {
    if (typeof chunk !== 'string') seen = Buffer.concat([seen, chunk]);
    const then = judge(typeof chunk === 'string' ? chunk : seen);
    if (then === 'more') return then;
    // After its end a socket takes nothing back, and there is nobody to read it.
    if (chunk !== 'closed' && seen.length > 0) socket.unshift(seen);
    then();
  });
}

/** Hands on what arrives until `next` is satisfied; the socket is paused whenever `next` runs. */
function watch(socket: Socket, timeoutMs: number, next: (chunk: Buffer | Ended) => unknown): void {
  const halt = (): void => {
    socket.off('data', onData).off('end', onEnd).off('close', onEnd).pause();
  };
  const onData = (chunk: Buffer): void => {
    halt();
    if (next(chunk) === 'more') start();
    else clearTimeout(timer);
  };
  const onEnd = (): void => {
    halt();
    clearTimeout(timer);
    next('closed');
  };
  const start = (): void => {
    socket.on('data', onData).on('end', onEnd).on('close', onEnd).resume();
  };
  const timer = setTimeout(() => {
    halt();
    next('silent');
  }, timeoutMs);
  start();
}
