// What a client speaks, by its first bytes. TLS and HTTP/1 go on; everything else is refused and
// named as far as it can be, because an agent that tries it shows what it was after.

export type Spoken =
  | { readonly kind: 'tls' }
  | { readonly kind: 'http' }
  | { readonly kind: 'http2' }
  | { readonly kind: 'other'; readonly reason: string };

const TLS_HANDSHAKE = 0x16;
const POSTGRES_TLS = 80_877_103;
const POSTGRES_3_0 = 196_608;
/** A method, or the beginning of one when the first segment is short. */
const METHOD = /^[A-Z]{1,20}(?: |$)/;

export function spokenIn(first: Buffer): Spoken {
  if (first[0] === TLS_HANDSHAKE) return { kind: 'tls' };
  const text = first.toString('latin1', 0, 21);
  if (text.startsWith('PRI * HTTP/2')) return { kind: 'http2' };
  if (METHOD.test(text)) return { kind: 'http' };
  if (text.startsWith('SSH-')) return other('SSH');
  const startup = first.length >= 8 ? first.readUInt32BE(4) : 0;
  if (startup === POSTGRES_TLS || startup === POSTGRES_3_0) return other('PostgreSQL');
  if (first[0] === 0x05 && first.length <= 32) return other('SOCKS 5');
  if (/^\*\d+\r/.test(text)) return other('Redis');
  return other('bytes that are neither TLS nor HTTP');
}

function other(reason: string): Spoken {
  return { kind: 'other', reason };
}
