import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { CallBody } from '../../../src/core/call.ts';
import { BelayError } from '../../../src/core/errors.ts';
import { createAuthority } from '../../../src/gateway/listen/x509.ts';
import { hostAddresses } from '../../../src/upstream/resolve.ts';
import { createUpstream } from '../../../src/upstream/upstream.ts';
import { verifies } from '../../verifies.ts';
import {
  declare,
  expectResponse,
  fieldOf,
  NOTHING_DECLARED,
  readAll,
  request,
  settled,
  startOrigin,
  streamed,
  target,
  until,
} from './origin.ts';

const SITE = target('https', 'api.example.com');

verifies('gw.ssrf', 'a name that resolves to any refused address is not dialled', async () => {
  const dialled: string[] = [];
  const answers: Record<string, string[]> = {
    'loopback.example': ['127.0.0.1'],
    'mixed.example': ['93.184.216.34', '10.0.0.7'],
    'metadata.example': ['169.254.169.254'],
    'six.example': ['::ffff:127.0.0.1'],
  };
  await using upstream = createUpstream({
    resolve: async (host) => (answers[host] ?? []).map((address) => ({ address, family: 4 })),
    dial: (address) => {
      dialled.push(address);
      return netConnect({ host: '127.0.0.1', port: 1 });
    },
  });
  for (const host of [...Object.keys(answers), '127.0.0.1', '169.254.169.254', '::1']) {
    const result = await upstream.send(request(target('http', host), NOTHING_DECLARED));
    expect(result).toMatchObject({ kind: 'failed', code: 'address.refused' });
  }
  const empty = await upstream.send(request(target('http', 'none.example'), NOTHING_DECLARED));
  expect(empty).toMatchObject({ kind: 'failed', code: 'address.unresolved' });
  expect(dialled).toEqual([]);
});

verifies(
  'identity.two-environments',
  'an answer of the resolver serves connections of its environment only',
  async () => {
    const asked: string[] = [];
    await using origin = await startOrigin((_q, reply) => reply.end('ok'));
    await using upstream = createUpstream({
      resolve: async (host) => {
        asked.push(host);
        return [{ address: '93.184.216.35', family: 4 }];
      },
      resolveTtlMs: 60_000,
      dial: () => netConnect({ host: '127.0.0.1', port: origin.port }),
    });
    for (const env of ['staging', 'staging', 'production']) {
      // Other ports are other pools, so each call opens a connection.
      for (const port of [8001, 8002]) {
        const to = { ...target('http', 'one.example'), port };
        await readAll(
          expectResponse(await upstream.send({ ...request(to, NOTHING_DECLARED), env })),
        );
      }
    }
    expect(asked).toEqual(['one.example', 'one.example']);
  },
);

verifies(
  'gw.ssrf',
  "the host's own public addresses are refused, by name and as such, as soon as it has them",
  async () => {
    const dialled: string[] = [];
    let own = ['93.184.216.34'];
    let nowMs = 0;
    await using origin = await startOrigin((_q, reply) => reply.end('ok'));
    await using upstream = createUpstream({
      clock: () => nowMs,
      resolveTtlMs: 1000,
      resolve: async () =>
        ['93.184.216.35', '2606:4700::1'].map((address) => ({ address, family: 0 })),
      ownAddresses: () => own,
      dial: (address) => {
        dialled.push(address);
        return netConnect({ host: '127.0.0.1', port: origin.port });
      },
    });
    const refused = {
      code: 'address.refused',
      reason: expect.stringContaining("the host's own; declare it under upstreams"),
    };
    const send = (host: string, declared = NOTHING_DECLARED) =>
      upstream.send(request(target('http', host), declared));
    expect(await send('93.184.216.34')).toMatchObject(refused);
    // A neighbour of the host is none of its own.
    await readAll(expectResponse(await send('one.example')));
    expect(dialled).toEqual(['93.184.216.35']);

    own = ['93.184.216.34', '2606:4700:0:0::1', 'fe80::1%eth0'];
    nowMs += 1000;
    expect(await send('two.example')).toMatchObject(refused);
    expect(await send('2606:4700::1')).toMatchObject(refused);
    const declared = declare(origin.port, 'two.example');
    await readAll(expectResponse(await send('two.example', declared)));
    expect(dialled).toEqual(['93.184.216.35', '127.0.0.1']);
  },
);

verifies('gw.ssrf', 'what the host calls its own is what its interfaces have', () => {
  expect(hostAddresses()).toContain('127.0.0.1');
});

verifies(
  'gw.ssrf',
  'a declared upstream is dialled where it was declared, on its host only',
  async () => {
    await using origin = await startOrigin((_q, reply) => reply.end('declared'), {
      tls: 'api.example.com',
    });
    await using upstream = createUpstream({
      resolve: async () => [{ address: '127.0.0.1', family: 4 }],
    });
    const declared = declare(origin.port, 'api.example.com');
    const answer = expectResponse(await upstream.send(request(SITE, declared)));
    expect((await readAll(answer)).toString()).toBe('declared');
    const other = await upstream.send(request(target('https', 'other.example.com'), declared));
    expect(other).toMatchObject({ code: 'address.refused' });
  },
);

verifies(
  ['gw.pinned-address', 'gw.rebinding'],
  'the checked address is dialled, and each new connection is checked',
  async () => {
    await using origin = await startOrigin((_q, reply) => reply.end('ok'));
    const answers = ['93.184.216.34', '127.0.0.1', '93.184.216.34'];
    let asked = 0;
    const dialled: string[] = [];
    const sockets: Socket[] = [];
    await using upstream = createUpstream({
      resolveTtlMs: 0,
      // A rebinding name: public when it is checked, ourselves when it is asked again.
      resolve: async () => [{ address: answers[asked++] as string, family: 4 }],
      dial: (address) => {
        dialled.push(address);
        const socket = netConnect({ host: '127.0.0.1', port: origin.port });
        sockets.push(socket);
        return socket;
      },
    });
    const to = target('http', 'rebind.example');
    await readAll(expectResponse(await upstream.send(request(to, NOTHING_DECLARED))));
    expect(asked).toBe(1);
    // The connection that was checked serves on; nobody asks again for it.
    await new Promise((turn) => setTimeout(turn, 5));
    await readAll(expectResponse(await upstream.send(request(to, NOTHING_DECLARED))));
    expect(asked).toBe(1);
    sockets[0]?.destroy();
    await until('the connection is gone', () => sockets[0]?.closed === true);
    const second = await upstream.send(request(to, NOTHING_DECLARED));
    expect(second).toMatchObject({ code: 'address.refused' });
    expect(asked).toBe(2);
    expect(dialled).toEqual(['93.184.216.34']);
  },
);

test('when an address of an answer does not connect, the next one is tried', async () => {
  await using origin = await startOrigin((_q, reply) => reply.end('second'));
  const dialled: string[] = [];
  await using upstream = createUpstream({
    resolve: async () =>
      ['2606:4700::1', '93.184.216.34'].map((address) => ({ address, family: 0 })),
    dial: (address) => {
      dialled.push(address);
      return netConnect({ host: '127.0.0.1', port: address.includes(':') ? 1 : origin.port });
    },
  });
  const answer = await upstream.send(request(target('http', 'two.example'), NOTHING_DECLARED));
  expect((await readAll(expectResponse(answer))).toString()).toBe('second');
  expect(dialled).toEqual(['2606:4700::1', '93.184.216.34']);
});

verifies(
  'gw.dead-upstream',
  'a refused connection, a silent one and a broken one have clear reasons',
  async () => {
    await using upstream = createUpstream({ connectTimeoutMs: 300, headersTimeoutMs: 1000 });
    const dead = await upstream.send(
      request(target('http', 'dead.example'), declare(1, 'dead.example')),
    );
    expect(dead).toEqual({
      kind: 'failed',
      code: 'upstream.unreachable',
      reason: '`dead.example` cannot be reached: connection refused',
    });
    await using silent = await startRaw(() => {});
    const handshake = await upstream.send(request(SITE, declare(silent.port, 'api.example.com')));
    expect(handshake).toMatchObject({
      code: 'upstream.unreachable',
      reason: '`api.example.com` cannot be reached: connection timed out during the TLS handshake',
    });
    await using broken = await startRaw((socket) => socket.once('data', () => socket.destroy()));
    const cut = await upstream.send(
      request(target('http', 'cut.example'), declare(broken.port, 'cut.example')),
    );
    expect(cut).toMatchObject({
      code: 'upstream.broken',
      reason: '`cut.example` broke off: it closed the connection',
    });
    await using babble = await startRaw((socket) =>
      socket.once('data', () => socket.end('hello\r\n\r\n')),
    );
    const noise = await upstream.send(
      request(target('http', 'noise.example'), declare(babble.port, 'noise.example')),
    );
    expect(noise).toMatchObject({ code: 'upstream.broken' });
    expect(upstream.stats().inFlight).toBe(0);
  },
);

verifies(
  'gw.bad-certificate',
  'a certificate that does not verify is refused before a byte is sent',
  async () => {
    let seen = 0;
    const count = (_q: unknown, reply: { end(): void }): void => {
      seen++;
      reply.end();
    };
    const stranger = createAuthority(Date.now());
    await using otherName = await startOrigin(count, { tls: 'other.example.com' });
    await using otherSigner = await startOrigin(count, {
      tls: 'api.example.com',
      authority: stranger,
    });
    const old = createAuthority(Date.now());
    const expired = {
      ...old,
      mint: (host: string) => old.mint(host, Date.now() - 30 * 86_400_000),
    };
    await using late = await startOrigin(count, { tls: 'api.example.com', authority: expired });
    await using plain = await startOrigin(count);
    await using upstream = createUpstream();
    const send = (port: number, ca?: string) =>
      upstream.send(
        request(
          SITE,
          ca === undefined
            ? declare(port, SITE.host)
            : new Map([[SITE.host, { address: `127.0.0.1:${port}`, tls: { ca } }]]),
        ),
      );
    const wrongName = await send(otherName.port);
    expect(wrongName).toEqual({
      kind: 'failed',
      code: 'upstream.tls',
      reason: 'the certificate of `api.example.com` is refused: it is for other names',
    });
    expect(await send(otherSigner.port)).toMatchObject({
      code: 'upstream.tls',
      reason: expect.stringContaining('no trusted authority signed it'),
    });
    expect(await send(late.port, old.certificatePem)).toMatchObject({
      code: 'upstream.tls',
      reason: expect.stringContaining('it has expired'),
    });
    expect(await send(plain.port)).toMatchObject({ code: 'upstream.tls' });
    // Without a declared authority only the public ones are trusted.
    const publicOnly = new Map([[SITE.host, { address: `127.0.0.1:${otherSigner.port}` }]]);
    expect(await upstream.send(request(SITE, publicOnly))).toMatchObject({ code: 'upstream.tls' });
    expect(seen).toBe(0);
  },
);

test('an address as host is verified against the address', async () => {
  await using origin = await startOrigin((_q, reply) => reply.end('ok'), { tls: '127.0.0.1' });
  await using upstream = createUpstream();
  const to = target('https', '127.0.0.1', origin.port);
  const answer = await upstream.send(request(to, declare(origin.port, '127.0.0.1')));
  expect(expectResponse(answer).status).toBe(200);
});

test('fields pass in order with their repetitions, hop-by-hop fields do not', async () => {
  let got: string[] = [];
  await using origin = await startOrigin((asked, reply) => {
    got = asked.rawHeaders;
    reply.writeHead(200, [
      'set-cookie',
      'a=1',
      'set-cookie',
      'b=2',
      'x-odd',
      'caf\u00e9',
      'connection',
      'close, x-hop',
      'x-hop',
      'secret',
      'keep-alive',
      'timeout=9',
    ]);
    reply.end('ok');
  });
  await using upstream = createUpstream();
  const answer = expectResponse(
    await upstream.send(
      request(target('http', 'f.example', 8080), declare(origin.port, 'f.example'), {
        headers: [
          ['x-a', '1'],
          ['x-a', '2'],
          ['host', 'evil.example'],
          ['te', 'trailers'],
          ['transfer-encoding', 'chunked'],
          ['content-length', '99'],
          ['expect', '100-continue'],
        ],
      }),
    ),
  );
  expect(got).toEqual([
    'host',
    'f.example:8080',
    'connection',
    'keep-alive',
    'x-a',
    '1',
    'x-a',
    '2',
  ]);
  expect(fieldOf(answer.headers, 'set-cookie')).toEqual(['a=1', 'b=2']);
  expect(fieldOf(answer.headers, 'x-odd')).toEqual(['caf\u00e9']);
  for (const name of ['connection', 'keep-alive', 'x-hop', 'transfer-encoding']) {
    expect(fieldOf(answer.headers, name)).toEqual([]);
  }
  await readAll(answer);
});

test('nothing is redirected, decoded or retried', async () => {
  let seen = 0;
  const zipped = gzipSync('hello');
  await using origin = await startOrigin((asked, reply) => {
    seen++;
    if (asked.url === '/moved') reply.writeHead(302, { location: '/elsewhere' }).end();
    else if (asked.url === '/zip') reply.writeHead(200, { 'content-encoding': 'gzip' }).end(zipped);
    else asked.socket.destroy();
  });
  await using upstream = createUpstream();
  const send = (pathAndQuery: string) =>
    upstream.send(
      request(target('http', 'n.example'), declare(origin.port, 'n.example'), { pathAndQuery }),
    );
  const moved = expectResponse(await send('/moved'));
  expect([moved.status, fieldOf(moved.headers, 'location')]).toEqual([302, ['/elsewhere']]);
  await readAll(moved);
  expect(await readAll(expectResponse(await send('/zip')))).toEqual(zipped);
  expect(await send('/dies')).toMatchObject({ code: 'upstream.broken' });
  expect(seen).toBe(3);
});

test('a streamed body goes out with its length when it is known, chunked when not', async () => {
  const lengths: unknown[] = [];
  await using origin = await startOrigin((asked, reply) => {
    lengths.push(asked.headers['content-length'], asked.headers['transfer-encoding']);
    asked.pipe(reply);
  });
  await using upstream = createUpstream();
  async function* source(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('hello ');
    yield Buffer.from('world');
  }
  for (const headers of [[['content-length', '11']], []] as const) {
    const answer = await upstream.send(
      request(target('http', 's.example'), declare(origin.port, 's.example'), {
        method: 'PUT',
        headers,
        body: streamed(source()),
      }),
    );
    expect((await readAll(expectResponse(answer))).toString()).toBe('hello world');
  }
  expect(lengths).toEqual(['11', undefined, undefined, 'chunked']);
});

test('a body that breaks off on our side breaks the request, with its reason', async () => {
  const ends: boolean[] = [];
  await using origin = await startOrigin((asked) => {
    asked
      .resume()
      .on('error', () => {})
      .once('close', () => ends.push(asked.complete));
  });
  await using upstream = createUpstream();
  async function* source(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('half');
    throw new BelayError('ERR_STOPPED', 'killed: operator');
  }
  const answer = await upstream.send(
    request(target('http', 's.example'), declare(origin.port, 's.example'), {
      method: 'POST',
      body: streamed(source()),
    }),
  );
  expect(answer).toEqual({ kind: 'failed', code: 'stopped', reason: 'killed: operator' });
  await until('the origin sees the end', () => ends.length === 1);
  expect(ends).toEqual([false]);
});

verifies(
  'monitor.stop-again',
  'a call that waits for a connection when a stop lands is not sent, and the next one is',
  async () => {
    const seen: string[] = [];
    const release = Promise.withResolvers<void>();
    await using origin = await startOrigin((asked, reply) => {
      seen.push(asked.url ?? '');
      if (asked.url === '/first') void release.promise.then(() => reply.end('late'));
      else reply.end('ok');
    });
    await using upstream = createUpstream({ maxConnections: 1 });
    let stop: BelayError | undefined;
    const send = (pathAndQuery: string, body: CallBody = { kind: 'none' }, method = 'GET') => {
      const declared = declare(origin.port, 'q.example');
      const stopped = () => stop;
      return upstream.send(
        request(target('http', 'q.example'), declared, { pathAndQuery, method, body, stopped }),
      );
    };
    const first = send('/first');
    await until('the first has arrived', () => seen.length === 1);
    const waiting = [
      send('/waits'),
      send('/with-body', { kind: 'buffered', bytes: Buffer.from('x'), sha256: '' }, 'POST'),
    ];
    stop = new BelayError('ERR_STOPPED', 'quarantined: test');
    release.resolve();
    expect((await readAll(expectResponse(await first))).toString()).toBe('late');
    const stopped = { kind: 'failed', code: 'stopped', reason: 'quarantined: test' };
    expect(await Promise.all(waiting)).toEqual([stopped, stopped]);
    stop = undefined;
    expect((await readAll(expectResponse(await send('/after')))).toString()).toBe('ok');
    expect(seen).toEqual(['/first', '/after']);
    expect(upstream.stats().inFlight).toBe(0);
  },
);

verifies('gw.streaming', 'an upstream waits while the sink asks it to', async () => {
  const total = 32 << 20;
  let written = 0;
  await using origin = await startOrigin((_q, reply) => {
    const chunk = Buffer.alloc(64 << 10);
    const more = (): void => {
      while (written < total) {
        written += chunk.length;
        if (!reply.write(chunk)) {
          reply.once('drain', more);
          return;
        }
      }
      reply.end();
    };
    more();
  });
  await using upstream = createUpstream();
  const send = () =>
    upstream.send(request(target('http', 'b.example'), declare(origin.port, 'b.example')));
  const answer = expectResponse(await send());
  let got = 0;
  const ended = Promise.withResolvers<void>();
  const flow = answer.body.flow({
    write(chunk) {
      got += chunk.length;
      return got > 1 << 20;
    },
    end: () => ended.resolve(),
    fail: ended.reject,
  });
  // Socket buffers of the kernel take some megabytes; far from everything.
  expect(await settled(() => written)).toBeLessThan(total / 2);
  const before = got;
  await new Promise((wait) => setTimeout(wait, 50));
  expect(got).toBe(before);
  const nudge = setInterval(() => flow.resume(), 1);
  await ended.promise;
  clearInterval(nudge);
  expect(got).toBe(total);
});

verifies(
  'gw.abort-during-commit',
  'a call whose client left while it waited for a connection is never sent',
  async () => {
    const seen: string[] = [];
    const held: (() => void)[] = [];
    await using origin = await startOrigin((asked, reply) => {
      seen.push(asked.url as string);
      held.push(() => reply.end('ok'));
    });
    await using upstream = createUpstream({ maxConnections: 1 });
    const declared = declare(origin.port, 'q.example');
    const to = target('http', 'q.example');
    const first = upstream.send(request(to, declared, { pathAndQuery: '/1' }));
    await until('the first arrives', () => seen.length === 1);
    const gone = new AbortController();
    const second = upstream.send(
      request(to, declared, { pathAndQuery: '/2', signal: gone.signal }),
    );
    const third = upstream.send(request(to, declared, { pathAndQuery: '/3' }));
    gone.abort();
    expect(await second).toMatchObject({ code: 'upstream.broken', reason: 'the client went away' });
    held.shift()?.();
    await readAll(expectResponse(await first));
    // The connection is not parked: the one behind it is served.
    await until('the third arrives', () => seen.length === 2);
    held.shift()?.();
    await readAll(expectResponse(await third));
    expect(seen).toEqual(['/1', '/3']);
    expect(upstream.stats().inFlight).toBe(0);
  },
);

test('an abort while the answer flows fails the sink once and closes the connection', async () => {
  let closed = false;
  await using origin = await startOrigin((_q, reply) => {
    reply.write('start');
    reply.once('close', () => {
      closed = true;
    });
  });
  await using upstream = createUpstream();
  const gone = new AbortController();
  const answer = expectResponse(
    await upstream.send(
      request(target('http', 'a.example'), declare(origin.port, 'a.example'), {
        signal: gone.signal,
      }),
    ),
  );
  const events: string[] = [];
  answer.body.flow({
    write: () => events.push('write') > 0,
    end: () => events.push('end'),
    fail: (error) => events.push(error.code),
  });
  await until('the first bytes', () => events.length === 1);
  gone.abort();
  await until('the connection is closed', () => closed);
  expect(events).toEqual(['write', 'ERR_ABORTED']);
  expect(upstream.stats().inFlight).toBe(0);
});

test('a flow that is aborted closes its connection, and its sink hears no more', async () => {
  let closed = false;
  await using origin = await startOrigin((_q, reply) => {
    reply.write('start');
    reply.once('close', () => {
      closed = true;
    });
  });
  await using upstream = createUpstream();
  const declared = declare(origin.port, 'a.example');
  const answer = expectResponse(
    await upstream.send(request(target('http', 'a.example'), declared)),
  );
  const events: string[] = [];
  const flow = answer.body.flow({
    write: () => events.push('write') > 0,
    end: () => events.push('end'),
    fail: (error) => events.push(error.code),
  });
  await until('the first bytes', () => events.length === 1);
  flow.abort(new BelayError('ERR_STOPPED', 'killed: operator'));
  await until('the connection is closed', () => closed);
  expect(events).toEqual(['write']);
  expect(upstream.stats().inFlight).toBe(0);
});

test('environments never share a connection, calls of one environment do', async () => {
  await using origin = await startOrigin((_q, reply) => reply.end());
  await using upstream = createUpstream();
  const declared = declare(origin.port, 'e.example');
  for (const env of ['staging', 'staging', 'production']) {
    const answer = await upstream.send(request(target('http', 'e.example'), declared, { env }));
    await readAll(expectResponse(answer));
    await new Promise((turn) => setTimeout(turn, 5));
  }
  expect(origin.connections()).toBe(2);
  expect(upstream.stats().pools).toBe(2);
});

test('what is more than the bounds is refused, and idle pools make room', async () => {
  await using origin = await startOrigin((asked, reply) => {
    if (asked.url !== '/hold') reply.end();
  });
  await using upstream = createUpstream({ maxPools: 2, maxInFlight: 1 });
  const send = (host: string, pathAndQuery: string) =>
    upstream.send(request(target('http', host), declare(origin.port, host), { pathAndQuery }));
  for (const host of ['a.example', 'b.example', 'c.example']) {
    await readAll(expectResponse(await send(host, '/')));
  }
  void send('d.example', '/hold');
  expect(await send('d.example', '/')).toMatchObject({
    reason: 'too many calls to `d.example` at once',
  });
  void send('e.example', '/hold');
  expect(await send('f.example', '/')).toMatchObject({
    reason: 'too many upstreams are in use at once',
  });
});

async function startRaw(
  onSocket: (socket: Socket) => void,
): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    onSocket(socket);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    port: (server.address() as { port: number }).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => server.close(done));
    },
  };
}
