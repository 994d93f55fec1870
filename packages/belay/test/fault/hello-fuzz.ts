// Hellos of TLS at the reader of the installed package that looks for their name, beside OpenSSL, which
// ends TLS for everybody else: no bytes throw; where both read a name it is the same; where OpenSSL has
// read one, the reader does not wait for more; and a hello of a real client, cut into records and pieces
// anywhere, has its own name and no other.
//
//   node hello-fuzz.ts [SECONDS] [SEED]

import { duplexPair } from 'node:stream';
import { createSecureContext, TLSSocket, connect as tlsConnect } from 'node:tls';
import type * as ClientHello from '../../src/gateway/listen/client-hello.ts';
import { createAuthority } from '../../src/gateway/listen/x509.ts';
import { FULL_SECONDS, type FuzzFigures, fuzz, type Judged } from './fuzzer.ts';
import { installedModule } from './installed-module.ts';
import { type Chance, chance } from './random.ts';

export const covers = ['packages/belay/src/gateway'];
const RECORD_HEAD = 5;

/** Throws when a promise does not hold. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<FuzzFigures> {
  return await fuzzHellos(FULL_SECONDS * size.scale, size.seed);
}

async function fuzzHellos(seconds: number, seed: number): Promise<FuzzFigures> {
  const { readHello } = (await installedModule(
    'gateway/listen/client-hello.js',
  )) as typeof ClientHello;
  const made = await realHellos();
  for (const [i, [hello, name]] of made.entries()) {
    const problem = cutProblem(readHello, hello, name, chance(seed, i));
    if (problem !== undefined) throw new Error(`hello-fuzz: ${problem} (seed ${seed})`);
  }
  const openssl = opensslReader();
  const judge = async (bytes: Buffer, draw: Chance): Promise<Judged> => {
    const input = draw.happens(0.3) ? inRecords(bytes, draw) : bytes;
    const read = readHello(input);
    const other = await openssl(input);
    if (read.kind === 'hello' && other.name !== undefined && read.serverName !== other.name) {
      return { problem: `\`${read.serverName}\` is \`${other.name}\` to OpenSSL` };
    }
    // Without a name OpenSSL asks for no certificate by name: the reader must not have seen one.
    if (read.kind === 'hello' && other.name === undefined && other.accepted) {
      return { problem: `\`${read.serverName}\` is no name to OpenSSL` };
    }
    if (read.kind === 'more' && other.name !== undefined) {
      return { problem: `waits for more of what OpenSSL has read: \`${other.name}\`` };
    }
    const ours = read.kind === 'refused' ? read.reason : read.kind;
    const theirs = other.name === undefined ? other.accepted : 'a name';
    return { sort: `${ours}, OpenSSL: ${theirs}` };
  };
  const words = [
    ...['\x00\x00', '\xfe\x0d\x00\x04\x00\x00\x00\x00', '\x16\x03\x01\x00\x01\x01', 'evil.example'],
    '\x00\x00\x00\x11\x00\x0f\x00\x00\x0cevil.example',
    '\x00\x0f\x00\x00\x0cevil.example',
  ];
  return await fuzz(
    { name: 'hello', made: made.map(([hello]) => hello), words, judges: [judge] },
    { seconds, seed },
  );
}

/** The first bytes of real clients that differ in what they offer, and the names that they ask for. */
async function realHellos(): Promise<readonly (readonly [Buffer, string])[]> {
  const names = ['a.example', 'pinned.example', `${'long-label-'.repeat(5)}x.example`];
  const offers = [
    {},
    { ALPNProtocols: ['http/1.1'] },
    { ALPNProtocols: ['h2', 'http/1.1'], requestOCSP: true },
    { maxVersion: 'TLSv1.2' as const },
    { minVersion: 'TLSv1.3' as const, ecdhCurve: 'X25519' },
  ];
  const all = names.flatMap((servername) => offers.map((offer) => ({ servername, ...offer })));
  return await Promise.all(
    all.map(async (offer) => {
      const [near, far] = duplexPair();
      const client = tlsConnect({ socket: near, ...offer }).on('error', () => {});
      const hello = await new Promise<Buffer>((resolve) => far.once('data', resolve));
      client.destroy();
      return [hello, offer.servername] as const;
    }),
  );
}

function cutProblem(
  readHello: typeof ClientHello.readHello,
  hello: Buffer,
  name: string,
  draw: Chance,
): string | undefined {
  for (let round = 0; round < 20; round++) {
    const bytes = round === 0 ? hello : inRecords(hello, draw);
    for (let length = 0; length < bytes.length; length++) {
      const { kind } = readHello(bytes.subarray(0, length));
      if (kind !== 'more') return `${length} bytes of ${bytes.length} are ${kind}`;
    }
    const read = readHello(bytes);
    if (read.kind !== 'hello' || read.serverName !== name) {
      return `\`${name}\` in records of other sizes is ${JSON.stringify(read)}`;
    }
  }
  return undefined;
}

/** The payload of the first record in records of other sizes. */
function inRecords(bytes: Buffer, draw: Chance): Buffer {
  if (bytes.length <= RECORD_HEAD) return bytes;
  const payload = bytes.subarray(RECORD_HEAD);
  const parts: Buffer[] = [];
  for (let at = 0; at < payload.length; ) {
    const part = payload.subarray(at, at + 1 + draw.below(draw.of([4, 60, 400])));
    parts.push(Buffer.of(22, 3, 1, part.length >> 8, part.length & 255), part);
    at += part.length;
  }
  return Buffer.concat(parts);
}

interface OpensslRead {
  /** The name that its server was asked for; undefined: it never was. */
  readonly name: string | undefined;
  /** It answered with its own part of the handshake. */
  readonly accepted: boolean;
}

/** What a server of the platform makes of the same bytes. */
function opensslReader(): (bytes: Buffer) => Promise<OpensslRead> {
  const { cert, key } = createAuthority(Date.now()).mint('any.example', Date.now());
  const secureContext = createSecureContext({ cert, key, minVersion: 'TLSv1.2' });
  return (bytes) =>
    new Promise((resolve) => {
      const [near, far] = duplexPair();
      let name: string | undefined;
      let accepted = false;
      let over = false;
      const end = (): void => {
        if (over) return;
        over = true;
        server.destroy();
        far.destroy();
        resolve({ name, accepted });
      };
      const server = new TLSSocket(near, {
        isServer: true,
        secureContext,
        SNICallback: (asked, done) => {
          name = asked;
          done(null, secureContext);
        },
      });
      // Nothing comes after these bytes: what it has not said soon after it never says.
      server
        .on('error', end)
        .on('close', end)
        .on('end', () => setImmediate(end));
      far.on('data', (said: Buffer) => {
        accepted ||= said[0] === 22;
        end();
      });
      far.on('end', end).end(bytes);
    });
}

if (import.meta.main) {
  const [seconds = '12', seed = String(Date.now() % 1e6)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await fuzzHellos(Number(seconds), Number(seed)))}\n`);
}
