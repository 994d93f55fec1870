// The upstream of every bench: HTTP/1.1 over TLS on the loopback, 1 KB of JSON for whatever is asked,
// and 1 MiB below one path. It does as little as it can, so that what is measured is what stands before
// it, and counts the requests that came without the credential that belongs to them. A process of its own.

import { createServer } from 'node:net';
import { createSecureContext, TLSSocket } from 'node:tls';

export interface OriginSettings {
  /** Host name to its certificate. */
  readonly leaves: Readonly<Record<string, { readonly cert: string; readonly key: string }>>;
  readonly token: string;
}

export interface OriginCounts {
  readonly requests: number;
  readonly withoutToken: number;
}

export const BODY_BYTES = 1024;
/** Below this path. */
export const LARGE_PATH = '/v1/large';
export const LARGE_BYTES = 1 << 20;
const HEAD_END = '\r\n\r\n';

function answer(bodyBytes: number): Buffer {
  const filler = 'x'.repeat(bodyBytes - JSON.stringify({ ok: true, filler: '' }).length);
  const body = JSON.stringify({ ok: true, filler });
  const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
  return Buffer.from(`${head}${HEAD_END}${body}`);
}

function serve({ leaves, token }: OriginSettings): void {
  const reply = answer(BODY_BYTES);
  const large = answer(LARGE_BYTES);
  const largeStart = Buffer.from(`GET ${LARGE_PATH}`);
  const wanted = Buffer.from(token);
  const contexts = new Map(
    Object.entries(leaves).map(([host, leaf]) => [host, createSecureContext(leaf)]),
  );
  const [first] = contexts.values();
  let requests = 0;
  let withoutToken = 0;

  const server = createServer({ noDelay: true }, (raw) => {
    const socket = new TLSSocket(raw, {
      isServer: true,
      ...(first === undefined ? {} : { secureContext: first }),
      SNICallback: (name, done) => done(null, contexts.get(name) ?? first),
    });
    let rest: Buffer | undefined;
    socket.on('data', (chunk: Buffer) => {
      let bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
      rest = undefined;
      for (let end = bytes.indexOf(HEAD_END); end >= 0; end = bytes.indexOf(HEAD_END)) {
        requests += 1;
        const at = bytes.indexOf(wanted);
        if (at < 0 || at > end) withoutToken += 1;
        const isLarge = bytes.subarray(0, largeStart.length).equals(largeStart);
        socket.write(isLarge ? large : reply);
        bytes = bytes.subarray(end + HEAD_END.length);
      }
      if (bytes.length > 0) rest = bytes;
    });
    socket.on('error', () => socket.destroy());
    raw.on('error', () => raw.destroy());
  });
  server.listen(0, '127.0.0.1', () => process.send?.(server.address()));
  process.on('message', () => process.send?.({ requests, withoutToken } satisfies OriginCounts));
  process.on('disconnect', () => process.exit());
}

if (import.meta.main) process.once('message', (settings) => serve(settings as OriginSettings));
