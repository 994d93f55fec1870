import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { parseBridgeHeader } from '../../../src/gateway/listen/bridge-header.ts';
import { createUpstream } from '../../../src/upstream/upstream.ts';
import { verifies } from '../../verifies.ts';
import { declare, startOrigin, until } from '../upstream/origin.ts';
import {
  answer,
  ask,
  authority,
  denied,
  passThrough,
  RUN,
  raw,
  startGateway,
  throughBridge,
  tlsThroughBridge,
} from './harness.ts';

const SITE = { name: 'api.example.com' };

verifies(
  'gw.intercept',
  'TLS is answered by our authority and re-encrypted to a verified upstream',
  async () => {
    let seen: { url?: string | undefined; key?: unknown; body?: string } = {};
    await using origin = await startOrigin(
      (asked, reply) => {
        let body = '';
        asked.on('data', (chunk) => {
          body += chunk;
        });
        asked.on('end', () => {
          seen = { url: asked.url, key: asked.headers['x-api-key'], body };
          reply.writeHead(201, ['x-a', '1', 'x-a', '2']);
          reply.end('made');
        });
      },
      { tls: SITE.name },
    );
    await using upstream = createUpstream();
    await using gw = await startGateway(passThrough(upstream, declare(origin.port, SITE.name)));
    const socket = await tlsThroughBridge(gw.path, SITE);
    expect(socket.getPeerCertificate().issuer.CN).toBe(authority.commonName);
    expect(socket.alpnProtocol).toBe('http/1.1');
    const got = await ask(
      socket,
      { method: 'POST', path: '/v1/%6dake?q=1', headers: { 'x-api-key': 'k' } },
      'hello',
    );
    expect([got.status, got.body]).toEqual([201, 'made']);
    expect(got.rawHeaders.filter((_field, i) => i % 2 === 1)).toEqual(
      expect.arrayContaining(['1', '2']),
    );
    expect(seen).toEqual({ url: '/v1/make?q=1', key: 'k', body: 'hello' });
    const call = gw.calls[0];
    expect(call).toMatchObject({
      run: RUN,
      kind: 'http',
      target: { scheme: 'https', host: SITE.name, port: 443 },
      method: 'POST',
      path: '/v1/make',
      query: 'q=1',
      body: { kind: 'buffered' },
    });
    expect(call?.headers).not.toContainEqual(['host', SITE.name]);
    expect(gw.denials).toEqual([]);
  },
);

test('one connection carries many calls, and each port is the one that was asked for', async () => {
  await using gw = await startGateway(async (call) => answer(`${call.target.port}`));
  const socket = await tlsThroughBridge(gw.path, { ...SITE, port: 8443 });
  const first = 'GET /a HTTP/1.1\r\nhost: api.example.com:8443\r\n\r\n';
  const last = 'GET /b HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n';
  const text = await raw(socket, first + last);
  expect(text.match(/8443/g)).toHaveLength(2);
  expect(gw.calls.map(({ path }) => path)).toEqual(['/a', '/b']);
});

test('plain HTTP is the same road', async () => {
  await using gw = await startGateway(async () => answer('plain'));
  const got = await ask(throughBridge(gw.path, { ...SITE, port: 80 }), { path: '/' });
  expect(got.body).toBe('plain');
  expect(gw.calls[0]?.target).toEqual({ scheme: 'http', host: SITE.name, port: 80 });
});

test('a line, its bytes and a request may arrive in one piece or byte by byte', async () => {
  await using gw = await startGateway(async () => answer('ok'));
  const line = `{"v":1,"dst":"198.18.0.1","port":80,"name":"api.example.com"}\n`;
  const bytes = Buffer.from(
    `${line}GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n`,
  );
  expect(await raw(connect(gw.path), bytes)).toContain('200 OK');
  const slow = connect(gw.path).setNoDelay();
  for (const byte of bytes.subarray(0, -1)) {
    slow.write(Buffer.of(byte));
    if (byte === 0x0a) await new Promise((turn) => setTimeout(turn, 2));
  }
  expect(await raw(slow, bytes.subarray(-1))).toContain('200 OK');
});

verifies(
  'gw.deny-inside-tls',
  'a denied host finishes the handshake and gets an ordinary 403',
  async () => {
    await using gw = await startGateway(async () => denied(403, 'not permitted'));
    const socket = await tlsThroughBridge(gw.path, { name: 'paste.example' });
    const head = 'GET / HTTP/1.1\r\nhost: paste.example\r\n';
    const text = await raw(socket, `${head}\r\n${head}connection: close\r\n\r\n`);
    expect(text.match(/HTTP\/1.1 403 Forbidden/g)).toHaveLength(2);
    expect(text).toContain('x-belay-denied: policy.no-permit');
    expect(text).toContain('x-should-retry: false');
    expect(text).toContain(
      '{"error":{"type":"belay_denied","code":"policy.no-permit","message":"not permitted"}}',
    );
  },
);

test('a HEAD that is denied has no body', async () => {
  await using gw = await startGateway(async () => denied(403, 'no'));
  const socket = await tlsThroughBridge(gw.path, SITE);
  const got = await ask(socket, { method: 'HEAD', path: '/' });
  expect([got.status, got.body]).toEqual([403, '']);
});

verifies(
  'core.host',
  'the name that DNS gave out decides: another TLS name is told 421',
  async () => {
    await using gw = await startGateway(async () => answer('no'));
    const socket = await tlsThroughBridge(gw.path, SITE, 'front.example.com');
    expect(socket.getPeerCertificate().subject.CN).toBe('front.example.com');
    const got = await ask(socket, { path: '/', headers: { host: 'api.example.com' } });
    expect(got.status).toBe(421);
    expect(got.headers['x-belay-denied']).toBe('protocol');
    expect(gw.calls).toEqual([]);
    expect(gw.denials).toEqual([
      {
        run: RUN,
        host: 'api.example.com',
        port: 443,
        reason: 'the TLS name `front.example.com` is not `api.example.com`',
      },
    ]);
  },
);

test('a destination without a name is the address itself', async () => {
  await using gw = await startGateway(async () => denied(403, 'no'));
  const to = { dst: '169.254.169.254', port: 80 };
  const got = await ask(throughBridge(gw.path, to), { host: '169.254.169.254', path: '/latest' });
  expect(got.status).toBe(403);
  expect(gw.calls[0]?.target).toEqual({ scheme: 'http', host: '169.254.169.254', port: 80 });
  const socket = await tlsThroughBridge(gw.path, { dst: '2001:DB8::1', port: 443 });
  expect(socket.getPeerCertificate().subjectaltname).toBe('IP Address:2001:DB8:0:0:0:0:0:1');
  const six = await ask(socket, { path: '/', headers: { host: '[2001:db8::1]' } });
  expect(six.status).toBe(403);
  expect(gw.calls[1]?.target.host).toBe('2001:db8::1');
});

verifies(
  'net.odd-port',
  'what is neither TLS nor HTTP is closed and reported with host and port',
  async () => {
    await using gw = await startGateway(async () => answer('no'), { firstByteTimeoutMs: 100 });
    const send = async (bytes: string | Buffer): Promise<void> => {
      const socket = throughBridge(gw.path, { ...SITE, port: 2222 });
      expect(await raw(socket, bytes)).toBe('');
    };
    await send('SSH-2.0-OpenSSH_9.2\r\n');
    await send(Buffer.from('0000000804d2162f', 'hex'));
    await send('\0\x01\x02');
    throughBridge(gw.path, { ...SITE, port: 2222 }).end();
    await until('the close is seen', () => gw.denials.length === 4);
    const silent = throughBridge(gw.path, { ...SITE, port: 2222 });
    await until('the silence is seen', () => gw.denials.length === 5);
    silent.destroy();
    expect(gw.reasons()).toEqual([
      'SSH',
      'PostgreSQL',
      'bytes that are neither TLS nor HTTP',
      'closed without a byte',
      'silence: not TLS, not HTTP',
    ]);
    for (const denial of gw.denials) {
      expect(denial).toMatchObject({ run: RUN, host: SITE.name, port: 2222 });
    }
    await until('all are closed', () => gw.gateway.stats().connections === 0);
  },
);

test('a handshake that fails is reported with its reason', async () => {
  await using gw = await startGateway(async () => answer('no'), { handshakeTimeoutMs: 200 });
  const { connect: tlsConnect } = await import('node:tls');
  const doubter = tlsConnect({ socket: throughBridge(gw.path, SITE), servername: SITE.name });
  doubter.on('error', () => {});
  await until('the first report', () => gw.denials.length === 1);
  const h2only = tlsConnect({
    socket: throughBridge(gw.path, SITE),
    servername: SITE.name,
    ALPNProtocols: ['spdy/3'],
    ca: authority.certificatePem,
  }).on('error', () => {});
  await until('the second report', () => gw.denials.length === 2);
  h2only.destroy();
  const stalled = throughBridge(gw.path, SITE);
  stalled.write(Buffer.from('160301020001', 'hex'));
  await until('the third report', () => gw.denials.length === 3);
  throughBridge(gw.path, SITE).end(Buffer.from('1603010005', 'hex'));
  await until('the fourth report', () => gw.denials.length === 4);
  expect(gw.reasons()).toEqual([
    expect.stringMatching(/^the TLS handshake failed: the client (does not trust|closed)/),
    'the TLS handshake failed: the client does not speak HTTP/1.1',
    'the TLS handshake failed: it took too long',
    'the TLS handshake failed: the client closed it',
  ]);
});

test('what is not the line of the bridge is closed without a word', async () => {
  await using gw = await startGateway(async () => answer('no'), { lineTimeoutMs: 150 });
  for (const bytes of [
    '{}\n',
    'GET / HTTP/1.1\r\n\r\n',
    `${'x'.repeat(2000)}`,
    '{"v":1,"dst":"1.2.3.4","port":443,"name":"a b"}\n',
    '{"v":1', // and then nothing
  ]) {
    expect(await raw(connect(gw.path), bytes, 1000)).toBe('');
  }
  expect(gw.calls).toEqual([]);
  await until('all are closed', () => gw.gateway.stats().connections === 0);
});

test('the line is exactly the agreed shape', () => {
  const good = { v: 1, dst: '198.18.0.1', port: 443, name: 'Example.COM' };
  expect(parseBridgeHeader(JSON.stringify(good))).toEqual({
    kind: 'connection',
    address: '198.18.0.1',
    port: 443,
    name: 'example.com',
  });
  expect(parseBridgeHeader('{"v":1,"dns":"example.com","qtype":28}')).toEqual({
    kind: 'dns',
    name: 'example.com',
    qtype: 28,
  });
  for (const bad of [
    { ...good, v: 2 },
    { ...good, run: 'r-other' },
    { ...good, port: 0 },
    { ...good, port: 65_536 },
    { ...good, port: '443' },
    { ...good, port: null },
    { ...good, dst: 'example.com' },
    { ...good, dst: 'fe80::1%eth0' },
    { ...good, name: 7 },
    { ...good, name: '127.0.0.1' },
    { ...good, name: 'a..b' },
    { v: 1, dns: 'x', qtype: 70_000 },
    { v: 1, dns: 'x'.repeat(256), qtype: 1 },
    { v: 1, dns: 'x', qtype: 1, dst: '1.2.3.4' },
    [good],
    null,
  ]) {
    expect([bad, parseBridgeHeader(JSON.stringify(bad))]).toEqual([bad, undefined]);
  }
});

test('a DNS question is passed on', async () => {
  await using gw = await startGateway(async () => answer('no'));
  connect(gw.path).end('{"v":1,"dns":"tunnel\\u202e.example","qtype":16}\n');
  await until('the question', () => gw.queries.length === 1);
  expect(gw.queries).toEqual([{ name: 'tunnel\\u{202e}.example', qtype: 16 }]);
});

test('a run has a bounded number of sockets, and is told of once', async () => {
  await using gw = await startGateway(async () => answer('ok'), { maxSocketsPerRun: 2 });
  const held = [throughBridge(gw.path, SITE), throughBridge(gw.path, SITE)];
  await until('both are in', () => gw.gateway.stats().connections === 2);
  for (let i = 0; i < 3; i++) expect(await raw(throughBridge(gw.path, SITE), '')).toBe('');
  expect(gw.reasons()).toEqual(['too many connections at once']);
  for (const socket of held) socket.destroy();
});

test('a head that never ends is cut off', async () => {
  await using gw = await startGateway(async () => answer('no'), { headersTimeoutMs: 200 });
  const socket = throughBridge(gw.path, { ...SITE, port: 80 });
  const text = await raw(socket, 'GET / HTTP/1.1\r\nhost: api.exam', 2000);
  expect(text).toContain('408 Request Timeout');
  expect(gw.reasons()).toEqual(['the head did not arrive in time']);
});

verifies('run.kill', 'a cut ends every connection and call of a run at once', async () => {
  const signals: AbortSignal[] = [];
  await using gw = await startGateway((call) => {
    signals.push(call.signal);
    return new Promise(() => {});
  });
  const sockets: Socket[] = [];
  for (let i = 0; i < 20; i++) sockets.push(await tlsThroughBridge(gw.path, SITE));
  for (const socket of sockets) {
    socket.on('error', () => {}).write('GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n');
  }
  sockets.push(
    throughBridge(gw.path, SITE),
    connect(gw.path).on('error', () => {}),
  );
  await until('all are in', () => signals.length === 20 && gw.gateway.stats().connections === 22);
  gw.gateway.cutRun(RUN);
  expect(signals.every(({ aborted }) => aborted)).toBe(true);
  await until('all are closed', () => sockets.every(({ closed }) => closed));
  expect(gw.gateway.stats()).toEqual({ runs: 1, connections: 0, calls: 0 });
  // Our own cut is no attempt of the agent.
  expect(gw.denials).toEqual([]);
});

test('a detached run leaves nothing behind', async () => {
  await using gw = await startGateway(() => new Promise(() => {}));
  const socket = await tlsThroughBridge(gw.path, SITE);
  socket.on('error', () => {}).write('GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n');
  await until('the call is there', () => gw.calls.length === 1);
  await gw.detach();
  expect(gw.calls[0]?.signal.aborted).toBe(true);
  expect(gw.gateway.stats()).toEqual({ runs: 0, connections: 0, calls: 0 });
  expect(
    await raw(
      connect(gw.path).on('error', () => {}),
      'x',
    ),
  ).toBe('');
});
