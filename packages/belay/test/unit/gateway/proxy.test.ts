import { connect, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import type { RunId } from '../../../src/core/ids.ts';
import type { ProxyListener } from '../../../src/gateway/listen/proxy-listener.ts';
import { verifies } from '../../verifies.ts';
import { until } from '../upstream/origin.ts';
import { answer, ask, denied, type Harness, RUN, raw, secured, startGateway } from './harness.ts';

const BASIC = `proxy-authorization: Basic ${Buffer.from(`${RUN}:se:cret`).toString('base64')}\r\n`;
const CONNECT = 'CONNECT api.example.com:443 HTTP/1.1\r\nhost: api.example.com:443\r\n';

function listen(gw: Harness): Promise<ProxyListener> {
  return gw.gateway.listenProxy({
    host: '127.0.0.1',
    port: 0,
    authenticate: (_listener, user, password) => {
      if (password !== 'se:cret') return null;
      return user as RunId;
    },
  });
}

function dial({ port }: ProxyListener): Socket {
  return connect(port, '127.0.0.1').on('error', () => {});
}

async function tunnel(proxy: ProxyListener, head = CONNECT): Promise<Socket> {
  const socket = dial(proxy);
  let text = '';
  const collect = (chunk: Buffer): void => {
    text += chunk;
  };
  socket.on('data', collect).write(`${head}${BASIC}\r\n`);
  await until('the tunnel', () => text.endsWith('\r\n\r\n'));
  socket.off('data', collect);
  expect(text).toBe('HTTP/1.1 200 Connection Established\r\n\r\n');
  return socket;
}

verifies(
  'gw.proxy-407',
  'without the right credentials the answer is 407 and asks for Basic',
  async () => {
    await using gw = await startGateway(async () => answer('no'));
    const proxy = await listen(gw);
    const wrong = (text: string) =>
      `proxy-authorization: Basic ${Buffer.from(text).toString('base64')}\r\n`;
    for (const credentials of [
      '',
      wrong(`${RUN}:guess`),
      wrong('r-unknown:se:cret'),
      wrong('nocolon'),
      'proxy-authorization: Bearer x\r\n',
      'proxy-authorization: Basic !!\r\n',
      `proxy-authorization: Basic ${'A'.repeat(5000)}\r\n`,
    ]) {
      for (const head of [
        CONNECT,
        'GET http://api.example.com/ HTTP/1.1\r\nhost: api.example.com\r\n',
      ]) {
        const text = await raw(dial(proxy), `${head}${credentials}\r\n`);
        expect([credentials, text]).toEqual([
          credentials,
          expect.stringContaining('HTTP/1.1 407 '),
        ]);
        expect(text.toLowerCase()).toContain('proxy-authenticate: basic realm="belay"');
      }
    }
    expect(gw.calls).toEqual([]);
  },
);

verifies(
  'gw.proxy-407',
  'with credentials CONNECT leads into TLS, and absolute form is a call',
  async () => {
    await using gw = await startGateway(async (call) =>
      answer(`${call.target.scheme} ${call.path}`),
    );
    const proxy = await listen(gw);
    const socket = await secured(await tunnel(proxy), 'api.example.com');
    expect((await ask(socket, { path: '/in' })).body).toBe('https /in');
    const plain = `GET http://other.example:8080/out HTTP/1.1\r\nhost: other.example:8080\r\n${BASIC}`;
    const text = await raw(dial(proxy), `${plain}\r\n${plain}connection: close\r\n\r\n`);
    expect(text.match(/http \/out/g)).toHaveLength(2);
    expect(gw.calls.map(({ run, target }) => [run, target.host, target.port])).toEqual([
      [RUN, 'api.example.com', 443],
      [RUN, 'other.example', 8080],
      [RUN, 'other.example', 8080],
    ]);
    for (const call of gw.calls) {
      expect(call.headers.map(([name]) => name)).not.toContain('proxy-authorization');
    }
  },
);

verifies(
  'gw.deny-inside-tls',
  'the proxy too accepts a denied host and refuses inside TLS',
  async () => {
    await using gw = await startGateway(async () => denied(403, 'not permitted'));
    const proxy = await listen(gw);
    const socket = await secured(await tunnel(proxy), 'api.example.com');
    const got = await ask(socket, { path: '/' });
    expect([got.status, got.headers['x-belay-denied']]).toEqual([403, 'policy.no-permit']);
  },
);

test('first bytes that came with the CONNECT are not lost', async () => {
  await using gw = await startGateway(async () => answer('kept'));
  const proxy = await listen(gw);
  const inner = 'GET / HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n';
  const head = `CONNECT api.example.com:80 HTTP/1.1\r\nhost: x\r\n${BASIC}\r\n`;
  expect(await raw(dial(proxy), head + inner)).toContain('kept');
});

test('what the proxy cannot mean is refused and reported', async () => {
  await using gw = await startGateway(async () => answer('no'));
  const proxy = await listen(gw);
  const cases: readonly (readonly [head: string, status: string])[] = [
    ['CONNECT api.example.com HTTP/1.1\r\nhost: x\r\n', '400'],
    ['CONNECT 0x7f.1:443 HTTP/1.1\r\nhost: x\r\n', '400'],
    ['CONNECT %65vil.example:443 HTTP/1.1\r\nhost: x\r\n', '400'],
    ['CONNECT api.example.com.:443 HTTP/1.1\r\nhost: x\r\n', '400'],
    ['CONNECT api.example.com:99999 HTTP/1.1\r\nhost: x\r\n', '400'],
    ['GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n', '400'],
    ['GET https://api.example.com/ HTTP/1.1\r\nhost: api.example.com\r\n', '400'],
    ['GET http://api.example.com/ HTTP/1.1\r\nhost: other.example\r\n', '421'],
    ['GET http://u:p@api.example.com/ HTTP/1.1\r\nhost: api.example.com\r\n', '400'],
  ];
  for (const [head, status] of cases) {
    const text = await raw(dial(proxy), `${head}${BASIC}connection: close\r\n\r\n`);
    expect([head, text.slice(9, 12)]).toEqual([head, status]);
  }
  expect(gw.calls).toEqual([]);
  expect(gw.denials).toHaveLength(cases.length);
});

verifies(
  'gw.one-at-a-time',
  'no tunnel is confirmed in the place of an answer that is still to come',
  async () => {
    await using gw = await startGateway(() => new Promise(() => {}));
    const proxy = await listen(gw);
    const first = `GET http://api.example.com/ HTTP/1.1\r\nhost: api.example.com\r\n${BASIC}\r\n`;
    for (const [behind, what] of [
      [`${CONNECT}${BASIC}\r\n`, 'CONNECT'],
      ['XXXX\r\n\r\n', 'not HTTP/1.1: HPE_INVALID_METHOD'],
    ] as const) {
      expect(await raw(dial(proxy), `${first}${behind}`)).toBe('');
      expect(gw.reasons().at(-1)).toBe(`${what} behind a request without an answer`);
    }
    await until('nothing is left', () => gw.gateway.stats().connections === 0);
  },
);

test('a run that is cut loses its proxy connections, and a detached one its credentials', async () => {
  await using gw = await startGateway(() => new Promise(() => {}));
  const proxy = await listen(gw);
  const socket = await secured(await tunnel(proxy), 'api.example.com');
  socket.on('error', () => {}).write('GET / HTTP/1.1\r\nhost: api.example.com\r\n\r\n');
  const plain = dial(proxy);
  plain.write(`GET http://api.example.com/ HTTP/1.1\r\nhost: api.example.com\r\n${BASIC}\r\n`);
  await until('both calls', () => gw.calls.length === 2);
  gw.gateway.cutRun(RUN);
  expect(gw.calls.every(({ signal }) => signal.aborted)).toBe(true);
  await until('both are closed', () => socket.closed && plain.closed);
  await gw.detach();
  expect(await raw(dial(proxy), `${CONNECT}${BASIC}\r\n`)).toContain('407');
});

test('a port in use is one clear error', async () => {
  await using gw = await startGateway(async () => answer('no'));
  const other = createServer().listen(0, '127.0.0.1');
  await until('it listens', () => other.listening);
  const { port } = other.address() as { port: number };
  const listening = gw.gateway.listenProxy({ host: '127.0.0.1', port, authenticate: () => null });
  await expect(listening).rejects.toMatchObject({
    code: 'ERR_HOST',
    message: `cannot listen on \`127.0.0.1:${port}\`: the port is in use`,
  });
  other.close();
});
