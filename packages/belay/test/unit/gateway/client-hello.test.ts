import { connect, createServer } from 'node:net';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readHello } from '../../../src/gateway/listen/client-hello.ts';
import { verifies } from '../../verifies.ts';

const NAME = 'pinned.example';

/** What the platform's own client says first. */
function helloOf(options: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.once('data', (bytes) => {
        socket.destroy();
        server.close();
        resolve(bytes);
      });
    }).listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      const socket = connect({ host: '127.0.0.1', port }).on('error', reject);
      tlsConnect({ socket, ...options }).on('error', () => {});
    });
  });
}

/** The same message in records of `size` bytes. */
function inRecords(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    records.push(Buffer.of(22, 3, 1, part.length >> 8, part.length & 0xff), part);
  }
  return Buffer.concat(records);
}

/** With one extension more, in front of the others. */
function withExtension(hello: Buffer, type: number, value: Buffer): Buffer {
  const bytes = Buffer.from(hello);
  let at = 5 + 4 + 2 + 32;
  at += 1 + (bytes[at] as number);
  at += 2 + bytes.readUInt16BE(at);
  at += 1 + (bytes[at] as number);
  const more = Buffer.alloc(4);
  more.writeUInt16BE(type, 0);
  more.writeUInt16BE(value.length, 2);
  const grown = more.length + value.length;
  bytes.writeUInt16BE(bytes.readUInt16BE(3) + grown, 3);
  bytes.writeUIntBE(bytes.readUIntBE(6, 3) + grown, 6, 3);
  bytes.writeUInt16BE(bytes.readUInt16BE(at) + grown, at);
  return Buffer.concat([bytes.subarray(0, at + 2), more, value, bytes.subarray(at + 2)]);
}

verifies(
  'gw.pass-through',
  'the name in a hello is found, however it is cut into records',
  async () => {
    const hello = await helloOf({ servername: NAME });
    for (const size of [1, 7, 100, 16_384]) {
      expect(readHello(inRecords(hello, size))).toEqual({ kind: 'hello', serverName: NAME });
    }
    for (let length = 0; length < hello.length; length++) {
      expect(readHello(hello.subarray(0, length)), `${length} bytes`).toEqual({ kind: 'more' });
    }
    // What follows is the client's own.
    expect(readHello(Buffer.concat([hello, Buffer.from('more')]))).toMatchObject({ kind: 'hello' });
  },
);

verifies(
  'gw.pass-through',
  'a hello without a name, with two, or with a hidden one is refused',
  async () => {
    const hello = await helloOf({ servername: NAME });
    const name = Buffer.from('evil.example');
    const list = Buffer.concat([Buffer.of(0, 0, name.length), name]);
    const second = Buffer.concat([Buffer.of(0, list.length), list]);
    const cases: readonly (readonly [Buffer, string])[] = [
      [await helloOf({}), 'no name in TLS'],
      [withExtension(hello, 0, second), 'an extension of TLS twice'],
      [withExtension(hello, 0xfe0d, Buffer.alloc(8)), 'an encrypted name in TLS'],
      [withExtension(await helloOf({}), 0, Buffer.concat([second, list])), 'a broken hello of TLS'],
      [Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'not TLS'],
      [Buffer.from('160301ffff01', 'hex'), 'a broken TLS record'],
      [Buffer.from('16030100040200000000', 'hex'), 'not the hello of a TLS client'],
      [Buffer.from('160301000401ffffff', 'hex'), 'a hello that is too long'],
    ];
    for (const [bytes, reason] of cases)
      expect(readHello(bytes)).toEqual({ kind: 'refused', reason });
  },
);

test('no bytes break it, and a broken hello never names another host', async () => {
  const hello = await helloOf({ servername: NAME });
  const edits = fc.array(fc.tuple(fc.nat({ max: hello.length - 1 }), fc.nat({ max: 255 })), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(edits, (changes) => {
      const bytes = Buffer.from(hello);
      for (const [at, value] of changes) bytes[at] = value;
      const found = readHello(bytes);
      expect(['more', 'hello', 'refused']).toContain(found.kind);
      // A name that was edited is another name, but no shorter reading of the same bytes.
      if (found.kind === 'hello') expect(bytes.includes(found.serverName, 0, 'latin1')).toBe(true);
    }),
    { numRuns: 2_000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      expect(readHello(Buffer.from(bytes)).kind).not.toBe('hello');
    }),
    { numRuns: 2_000 },
  );
});
