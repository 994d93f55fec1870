// HTTP/2 is not spoken here yet. A client that speaks nothing else hears so in its own words: settings,
// and a GOAWAY that asks for HTTP/1.1 (RFC 9113 sections 6.5, 6.8 and 7).

import type { Socket } from 'node:net';

const SETTINGS = 0x4;
const GOAWAY = 0x7;
const HTTP_1_1_REQUIRED = 0xd;
const WORDS = 'belay speaks HTTP/1.1 only';

function frame(type: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  return Buffer.concat([head, payload]);
}

function goAway(): Buffer {
  const numbers = Buffer.alloc(8);
  numbers.writeUInt32BE(HTTP_1_1_REQUIRED, 4);
  return Buffer.concat([numbers, Buffer.from(WORDS)]);
}

const REFUSAL = Buffer.concat([frame(SETTINGS, Buffer.alloc(0)), frame(GOAWAY, goAway())]);
/** What the client has sent is read away first: a reset would overtake the words. */
const LINGER_MS = 1_000;

export function refuseHttp2(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
  socket.resume().end(REFUSAL);
}
