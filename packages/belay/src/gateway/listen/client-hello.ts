// The first message of a TLS client (RFC 8446 section 4.1.2), read for one thing: the name that it
// asks for. Only for connections that are passed through; where we end TLS ourselves, OpenSSL reads it.
// Bytes of an agent: every length is checked against what is there, and what is odd is refused.

export type Hello =
  /** Not all of it has arrived. */
  | { readonly kind: 'more' }
  | { readonly kind: 'hello'; readonly serverName: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Of a whole hello with its records; post-quantum keys and long tickets are below 4 KiB. */
const MOST_HELLO_BYTES = 16 * 1024;

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
/** RFC 9849: a second name, encrypted, could be another one. */
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;

export function readHello(bytes: Buffer): Hello {
  const message = handshakeOf(bytes);
  if (!Buffer.isBuffer(message)) return message;
  try {
    return { kind: 'hello', serverName: nameIn(message) };
  } catch (error) {
    if (error instanceof Broken) return refused(error.message);
    throw error;
  }
}

/** The message without its header, put together from its records. */
function handshakeOf(bytes: Buffer): Buffer | Hello {
  const parts: Buffer[] = [];
  let haveBytes = 0;
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] !== HANDSHAKE) return refused('not TLS');
    if (at + 5 > bytes.length) break;
    const length = bytes.readUInt16BE(at + 3);
    if (bytes[at + 1] !== 3 || length === 0 || length > 16_384)
      return refused('a broken TLS record');
    const part = bytes.subarray(at + 5, at + 5 + length);
    parts.push(part);
    haveBytes += part.length;
    const start = haveBytes >= 4 ? Buffer.concat(parts) : undefined;
    if (start !== undefined) {
      if (start[0] !== CLIENT_HELLO) return refused('not the hello of a TLS client');
      const wanted = start.readUIntBE(1, 3);
      if (wanted + 4 > MOST_HELLO_BYTES) return refused('a hello that is too long');
      if (start.length >= wanted + 4) return start.subarray(4, wanted + 4);
    }
    if (part.length < length) break;
    at += 5 + length;
  }
  return bytes.length >= MOST_HELLO_BYTES ? refused('a hello that is too long') : { kind: 'more' };
}

class Broken extends Error {}

function nameIn(message: Buffer): string {
  const hello = cursor(message);
  hello.skip(2 + 32); // version, random
  hello.vector(1); // session
  hello.vector(2); // cipher suites
  hello.vector(1); // compression
  const extensions = cursor(hello.vector(2));
  hello.end();
  const seen = new Set<number>();
  let name: string | undefined;
  while (extensions.left() > 0) {
    const type = extensions.number(2);
    const value = extensions.vector(2);
    if (seen.has(type)) throw new Broken('an extension of TLS twice');
    seen.add(type);
    if (type === ENCRYPTED_CLIENT_HELLO) throw new Broken('an encrypted name in TLS');
    if (type === SERVER_NAME) name = hostName(value);
  }
  if (name === undefined) throw new Broken('no name in TLS');
  return name;
}

function hostName(value: Buffer): string {
  const outer = cursor(value);
  const list = cursor(outer.vector(2));
  outer.end();
  if (list.number(1) !== HOST_NAME) throw new Broken('a name in TLS of an unknown kind');
  const name = list.vector(2);
  list.end();
  return name.toString('latin1');
}

function cursor(bytes: Buffer) {
  let at = 0;
  const take = (count: number): Buffer => {
    if (at + count > bytes.length) throw new Broken('a broken hello of TLS');
    at += count;
    return bytes.subarray(at - count, at);
  };
  const number = (size: 1 | 2): number => take(size).readUIntBE(0, size);
  return {
    number,
    skip: (count: number): void => void take(count),
    /** Bytes behind their length, which is a number of `size` bytes. */
    vector: (size: 1 | 2): Buffer => take(number(size)),
    left: (): number => bytes.length - at,
    end(): void {
      if (at !== bytes.length) throw new Broken('a broken hello of TLS');
    },
  };
}

function refused(reason: string): Hello {
  return { kind: 'refused', reason };
}
