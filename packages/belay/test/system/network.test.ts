// What an agent reaches by the network: the bridge, which records and refuses, and nothing else. One
// run makes every attempt. The controls make the same ones in a network namespace whose root they
// are, where servers of the test's own stand at the addresses that are meant; the kernel refuses raw
// and packet sockets to an ordinary uid, so that only such a root shows what the filter keeps away.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, expect } from 'vitest';
import type { Entry } from '../../src/core/entry.ts';
import { verifies } from '../verifies.ts';
import { type Attempt, type Attempted, keyed, openPlace, type Place } from './place.ts';

/** Documentation addresses (RFC 5737, RFC 3849): nobody's. */
const STRANGER = '203.0.113.7';
const STRANGER6 = '2001:db8::7';
const RESOLVER = '203.0.113.53';
const RESOLVER6 = '2001:db8::53';
const FAKE = /^198\.1[89]\.\d+\.\d+$/;
const REFUSED = /^(?:ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EPERM|EACCES)$/;
/** Two labels of data and a name to carry them to. */
const CARRIER = `${randomBytes(30).toString('hex')}.${randomBytes(30).toString('hex')}.drop.example`;
const TYPES = { A: 1, NULL: 10, TXT: 16, AAAA: 28 };

const [UNIX, INET, INET6, PACKET, VSOCK] = [1, 2, 10, 17, 40];
const [STREAM, DGRAM, RAW] = [1, 2, 3];
const [ICMP, ICMP6, ANY] = [1, 58, 255];
const NEW_USER = 0x10000000;
const NEW_NET = 0x40000000;
const SIGCHLD = 17;

const get = (host: string): string =>
  `GET /a?b=c HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`;
const socket = (...which: readonly number[]): Attempt => ['call', 'socket', ...which];

/** Sockets and namespaces: no server is needed. */
const CALLS: Record<string, Attempt> = {
  rawIcmp: socket(INET, RAW, ICMP),
  rawAny: socket(INET, RAW, ANY),
  rawIcmp6: socket(INET6, RAW, ICMP6),
  packetRaw: socket(PACKET, RAW, 0x0300),
  packetPlain: socket(PACKET, DGRAM, 0x0300),
  vsock: socket(VSOCK, STREAM, 0),
  vsockPlain: socket(VSOCK, DGRAM, 0),
  ordinary: socket(UNIX, STREAM, 0),
  unshareNet: ['call', 'unshare', NEW_NET],
  unshareBoth: ['call', 'unshare', NEW_USER | NEW_NET],
  child: ['call', 'clone', NEW_USER | NEW_NET | SIGCHLD, 0, 0, 0, 0],
  enterOwn: ['enter', '/proc/self/ns/net', NEW_NET],
  enterNothing: ['call', 'setns', -1, NEW_NET],
  enterFirst: ['enter', '/proc/1/ns/net', NEW_NET],
  shellNet: ['shell', 'unshare --user --map-root-user --net ip link set lo up'],
};

/** Talks with servers: those of the control stand at the same addresses. */
const TALKS: Record<string, Attempt> = {
  plain6: ['talk', STRANGER6, 80, get(`[${STRANGER6}]`)],
  odd6: ['request', `http://[${STRANGER6}]:31337/`, { timeoutMs: 3_000 }],
  bytes6: ['talk', STRANGER6, 31338, 'not http at all\r\n\r\n', 1_500],
  quic: ['udp', STRANGER, 443],
  quic6: ['udp', STRANGER6, 443],
  resolver: ['udp', RESOLVER, 53],
  resolver6: ['udp', RESOLVER6, 53],
  resolverTcp: ['talk', RESOLVER, 53, 'not a question', 1_500],
  ask: ['query', RESOLVER, 'asked.example'],
  ask6: ['query', RESOLVER6, 'asked6.example'],
  ...Object.fromEntries(
    Object.entries(TYPES).map(([name, type]) => [
      `carry${name}`,
      ['query', RESOLVER, CARRIER, type],
    ]),
  ),
};

let place: Place;
let host: Server;
let port: number;
let entries: readonly Entry[];
let inside: Readonly<Record<string, Attempted>>;
let outside: Readonly<Record<string, Attempted>>;
let asRoot: Readonly<Record<string, Attempted>>;

beforeAll(async () => {
  place = await openPlace();
  host = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('host'));
  });
  await new Promise<void>((resolve) => host.listen({ port: 0, host: '::1' }, resolve));
  const bound = host.address();
  port = typeof bound === 'object' && bound !== null ? bound.port : 0;

  const plain: Record<string, Attempt> = { ...CALLS, loopback: ['talk', '::1', port, 'hello'] };
  const all: Record<string, Attempt> = {
    ...plain,
    ...TALKS,
    bridge6: ['talk', 'fd00:be1a::1', port, 'hello'],
    named: ['lookup', CARRIER],
    quicNamed: ['udp', 'quic.example', 443],
  };
  const made = await place.attempt([], Object.values(all));
  inside = keyed(all, made.results);
  entries = await place.entries(made.run.summary?.run);

  outside = keyed(plain, await place.control(Object.values(plain)));
  const far: Record<string, Attempt> = {
    serve: ['serve', [80, 53, 31337, 31338], [53, 443], '::'],
    ...TALKS,
    ...CALLS,
  };
  const addresses = [STRANGER, STRANGER6, RESOLVER, RESOLVER6];
  asRoot = keyed(far, await place.control(Object.values(far), { addresses }));
}, 120_000);

afterAll(async () => {
  host?.close();
  await place?.[Symbol.asyncDispose]();
}, 60_000);

const at = (host: string, port: number): readonly Entry[] =>
  entries.filter(
    (entry) =>
      (entry.type === 'denial' || entry.type === 'net.denial') &&
      entry.host === host &&
      entry.port === port,
  );

verifies('net.host-loopback-v6', "the host's IPv6 loopback is not reachable", () => {
  expect(outside.loopback?.value).toEqual({ state: 'connected', heard: 'host' });
  expect(inside.loopback?.value).toEqual({ state: 'ECONNREFUSED', heard: '' });
  expect(inside.bridge6?.value.heard).not.toContain('host');
});

verifies('net.ipv6', 'an IPv6 destination is denied and in the ledger like any other', () => {
  expect(asRoot.plain6?.value.heard).toMatch(/ 200 .*here/s);
  expect(asRoot.odd6?.value).toMatchObject({ status: 200, text: 'here' });
  expect(asRoot.bytes6?.value.heard).toContain('here');
  expect(inside.plain6?.value.heard).toMatch(/^HTTP\/1\.1 403 /);
  expect(inside.odd6?.value.status).toBe(403);
  expect(inside.bytes6?.value.heard).not.toContain('here');
  expect(at(STRANGER6, 80)).toMatchObject([{ type: 'denial', method: 'GET' }]);
  expect(at(STRANGER6, 31337)).toMatchObject([{ type: 'denial' }]);
  expect(at(STRANGER6, 31338)).not.toHaveLength(0);
});

verifies('net.quic', 'UDP to port 443 is refused at once, by address and by name', () => {
  expect(asRoot.quic?.value).toBe('answer: here');
  expect(asRoot.quic6?.value).toBe('answer: here');
  for (const name of ['quic', 'quic6', 'quicNamed']) {
    expect(inside[name]?.value, name).toMatch(REFUSED);
  }
});

verifies('net.udp53-any', 'a name server of the agent’s own choice is never reached', () => {
  for (const name of ['resolver', 'resolver6']) {
    expect(asRoot[name]?.value, name).toBe('answer: here');
    // What is no question gets no answer.
    expect(inside[name]?.value, name).toBe('silence');
  }
  for (const name of ['ask', 'ask6']) {
    expect(asRoot[name]?.value.text, name).toBe('here');
    expect(inside[name]?.value, name).toMatchObject({ text: 'dns', code: 0 });
    expect(inside[name]?.value.address, name).toMatch(FAKE);
  }
  expect(asRoot.resolverTcp?.value.heard).toContain('here');
  expect(inside.resolverTcp?.value.heard).not.toContain('here');
  expect(at(RESOLVER, 53)).not.toHaveLength(0);
});

verifies(
  'net.dns-tunnel',
  'a name that carries data goes no further than the bridge, and is in the ledger',
  () => {
    for (const type of Object.keys(TYPES)) {
      expect(asRoot[`carry${type}`]?.value.text, type).toBe('here');
      expect(inside[`carry${type}`]?.value, type).toMatchObject({ text: 'dns', code: 0 });
    }
    expect(inside.carryA?.value.address).toMatch(FAKE);
    // No data comes back by it either: only an address has an answer.
    for (const type of ['TXT', 'NULL', 'AAAA']) {
      expect(inside[`carry${type}`]?.value.answers, type).toBe(0);
    }
    expect(inside.named?.value).toMatchObject([{ address: inside.carryA?.value.address }]);
    const named = entries.filter(({ type }) => type === 'net.name');
    expect(named).toContainEqual(expect.objectContaining({ name: CARRIER }));
  },
);

verifies('net.raw', 'no raw socket can be made', () => {
  for (const name of ['rawIcmp', 'rawAny', 'rawIcmp6']) {
    expect(asRoot[name]?.value, name).toBe('done');
    expect(outside[name]?.value, `${name}: the kernel's own answer to a uid`).toBe('EPERM');
    expect(inside[name]?.value, name).toBe('ESOCKTNOSUPPORT');
  }
});

verifies('net.packet', 'no packet socket can be made', () => {
  for (const name of ['packetRaw', 'packetPlain']) {
    expect(asRoot[name]?.value, name).toBe('done');
    expect(outside[name]?.value, `${name}: the kernel's own answer to a uid`).toBe('EPERM');
    expect(inside[name]?.value, name).toBe('EAFNOSUPPORT');
  }
});

verifies('net.vsock', 'no vsock socket can be made', () => {
  // A kernel without vsock says to everybody what the filter says inside.
  const known = readFileSync('/proc/net/protocols', 'utf8').includes('AF_VSOCK');
  expect(outside.vsock?.value).toBe(known ? 'done' : 'EAFNOSUPPORT');
  expect(inside.vsock?.value).toBe('EAFNOSUPPORT');
  expect(inside.vsockPlain?.value).toBe('EAFNOSUPPORT');
  expect(inside.ordinary?.value, 'a unix socket').toBe('done');
});

verifies('net.child-netns', 'no further network namespace can be made or entered', () => {
  for (const name of ['unshareBoth', 'child']) {
    expect(outside[name]?.value, name).toBe('done');
    expect(inside[name]?.value, name).toBe('EPERM');
  }
  expect(outside.shellNet?.value.status).toBe(0);
  expect(inside.shellNet?.value.status).not.toBe(0);
  // Alone the kernel refuses it to an ordinary uid, and allows it to a root of namespaces.
  for (const name of ['unshareNet', 'enterOwn']) {
    expect(asRoot[name]?.value, name).toBe('done');
    expect(inside[name]?.value, name).toBe('EPERM');
  }
  expect(inside.enterFirst?.value).toBe('EPERM');
  // The filter answers before the kernel has looked at what is to be entered.
  expect(outside.enterNothing?.value).toBe('EBADF');
  expect(inside.enterNothing?.value).toBe('EPERM');
});
