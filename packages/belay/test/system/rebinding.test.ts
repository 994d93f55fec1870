// A name that leads elsewhere the next time it is asked, with a real name server and real packets.
// The program runs on a host of the test's own, whose resolver answers by a script: a permitted address
// and then a private one, the other way round, and both in one answer. The journals of the servers,
// and the packets that left the host, say who was reached. The control is a plain client there.

import { afterAll, beforeAll, expect } from 'vitest';
import type { Entry } from '../../src/core/entry.ts';
import { verifies } from '../verifies.ts';
import { type Attempt, type Attempted, keyed, openPlace, type Place } from './place.ts';
import { openWorld, type Seen, type World } from './world.ts';

/** Nobody else's here: the world ends at the other end of the link. */
const PUBLIC = '93.184.216.34';
const PUBLIC6 = '2606:2800:220:1::34';
const RESOLVER = '93.184.216.53';
const OWN = '93.184.217.10';
const OWN6 = '2606:2800:221:1::10';
const PRIVATE = '10.77.0.7';
const METADATA = '169.254.169.254';
const LOOPBACK = '127.0.0.1';
const LOOPBACK6 = '::1';
const PORT = 80;
/** Here nobody listens at the permitted address, so that a client goes on to the next one. */
const FALLBACK = 8081;
const RAW = 8082;
/** An answer of the resolver serves new connections for two seconds. */
const UNTIL_ASKED_AGAIN = ['shell', 'sleep 2.3'] as const;

/** To where, and why that is refused. */
const REBOUND = {
  'loopback.example': [PUBLIC, LOOPBACK, 'loopback'],
  'loopback6.example': [PUBLIC6, LOOPBACK6, 'loopback'],
  'private.example': [PUBLIC, PRIVATE, 'private'],
  'metadata.example': [PUBLIC, METADATA, 'cloud metadata'],
  'own.example': [PUBLIC, OWN, "the host's own"],
  'raw.example': [PUBLIC, PRIVATE, 'private'],
} as const;
const MIXED = {
  'public-first.example': [PUBLIC, PRIVATE],
  'private-first.example': [PRIVATE, PUBLIC],
};
const REFUSED = [LOOPBACK, LOOPBACK6, PRIVATE, METADATA, OWN];

const NAMES: Record<string, readonly (readonly string[])[]> = {
  'stays.example': [[PUBLIC]],
  'late.example': [[PRIVATE], [PUBLIC]],
  ...Object.fromEntries(
    Object.entries(REBOUND).map(([name, [first, second]]) => [name, [[first], [second]]]),
  ),
  ...Object.fromEntries(Object.entries(MIXED).map(([name, answer]) => [name, [answer]])),
};

const portOf = (name: string): number =>
  name in MIXED ? FALLBACK : name === 'raw.example' ? RAW : PORT;

function attemptAt(name: string, prefix = ''): Attempt {
  const host = `${prefix}${name}`;
  const port = portOf(name);
  if (port !== RAW) return ['request', `http://${host}:${port}/`];
  return ['talk', host, port, `GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`];
}

/** Every name twice, with time between for the first answers to grow old. */
function twice(prefix = ''): Record<string, Attempt> {
  const turn = (n: number) =>
    Object.keys(NAMES).map((name) => [`${name} ${n}`, attemptAt(name, prefix)] as const);
  return Object.fromEntries([...turn(1), ['wait', UNTIL_ASKED_AGAIN], ...turn(2)]);
}

/** The address that answered, the status of a refusal, or nobody. */
function outcomeOf(attempted: Attempted | undefined): unknown {
  const { status, text, heard } = attempted?.value ?? {};
  if (heard === undefined) return status === 200 ? text : status;
  const body = /^HTTP\/1\.1 200 .*\r\n\r\n(?:\w+\r\n)?([\d.]+)/s.exec(heard);
  return body === null ? 'nobody' : body[1];
}

const refusal = (name: string): unknown => (portOf(name) === RAW ? 'nobody' : 403);

let world: World;
let place: Place;
let entries: readonly Entry[];
let inside: Record<string, Attempted>;
let outside: Record<string, Attempted>;
let seen: readonly Seen[];
let packets: { readonly inside: Packets; readonly outside: Packets };
type Packets = Awaited<ReturnType<World['packets']>>;

beforeAll(async () => {
  world = await openWorld({
    own: [OWN, OWN6],
    far: [PUBLIC, PUBLIC6, RESOLVER, PRIVATE, METADATA],
    resolver: RESOLVER,
    ownListens: [LOOPBACK, LOOPBACK6, OWN].map((address) => [address, PORT]),
    farListens: [
      ...[PUBLIC, PUBLIC6, PRIVATE, METADATA].map((address) => [address, PORT] as const),
      ...[PUBLIC, PRIVATE].map((address) => [address, RAW] as const),
      [PRIVATE, FALLBACK],
    ],
    names: NAMES,
    watched: REFUSED,
  });
  place = await openPlace({}, { within: world.within });
  const allowed = Object.keys(NAMES).map((name) => {
    const entry = `${name}:${portOf(name)}`;
    return portOf(name) === RAW ? `tcp://${entry}` : entry;
  });
  const attempts = twice();
  const made = await place.attempt(
    allowed.flatMap((entry) => ['--allow', entry]),
    Object.values(attempts),
  );
  inside = keyed(attempts, made.results);
  entries = await place.entries(made.run.summary?.run);
  seen = [...world.seen()];
  const after = await world.packets();

  const plainly = twice('control-');
  outside = keyed(plainly, await place.control(Object.values(plainly)));
  packets = { inside: after, outside: await world.packets() };
}, 120_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await world?.[Symbol.asyncDispose]();
}, 60_000);

/** What the name server answered, by turn; each turn has a list of either family. */
const answersOf = (name: string): readonly string[] =>
  seen.filter(({ asked }) => asked === name).flatMap(({ answers }) => answers ?? []);

/** The reasons of the ledger why this name was refused. */
const refusalsOf = (name: string): readonly string[] =>
  entries.flatMap((entry) => {
    const error = entry.type === 'outcome' ? entry.error : undefined;
    const named = error?.reason.startsWith(`\`${name}\` `);
    return error?.code === 'address.refused' && named ? [error.reason] : [];
  });

const reason = (name: string, address: string, why: string): string =>
  `\`${name}\` resolves to \`${address}\`, which is refused: ${why}; declare it under upstreams`;

verifies(
  'gw.rebinding',
  'a name that leads to a refused address the next time it is asked is refused, with the reason',
  () => {
    for (const [name, [first, then, why]] of Object.entries(REBOUND)) {
      // The attack: whoever asks again is led there.
      expect(outcomeOf(outside[`${name} 1`]), name).toBe(first);
      expect(outcomeOf(outside[`${name} 2`]), name).toBe(then);

      expect(outcomeOf(inside[`${name} 1`]), name).toBe(first);
      expect(outcomeOf(inside[`${name} 2`]), name).toBe(refusal(name));
      expect(answersOf(name), 'one question for each connection').toEqual([first, then]);
      expect(refusalsOf(name)).toEqual([reason(name, then, why)]);
    }
  },
);

verifies(
  'gw.rebinding',
  'an answer with a refused address beside a permitted one is refused, in either order',
  () => {
    for (const [name, answer] of Object.entries(MIXED)) {
      for (const turn of [1, 2]) {
        expect(outcomeOf(outside[`${name} ${turn}`]), name).toBe(PRIVATE);
        expect(outcomeOf(inside[`${name} ${turn}`]), name).toBe(403);
      }
      expect(answersOf(name)).toEqual([...answer, ...answer]);
      const why = reason(name, PRIVATE, 'private');
      expect(refusalsOf(name)).toEqual([why, why]);
    }
  },
);

verifies('gw.rebinding', 'a name is refused for as long as it leads to a refused address', () => {
  const name = 'late.example';
  expect([1, 2].map((turn) => outcomeOf(outside[`${name} ${turn}`]))).toEqual([PRIVATE, PUBLIC]);
  expect([1, 2].map((turn) => outcomeOf(inside[`${name} ${turn}`]))).toEqual([403, PUBLIC]);
  expect(refusalsOf(name)).toEqual([reason(name, PRIVATE, 'private')]);
});

verifies('gw.rebinding', 'no packet leaves for an address to which a name was led', () => {
  const nothing = Object.fromEntries(REFUSED.map((address) => [address, 0]));
  expect(packets.inside).toEqual(nothing);
  const reached = seen.filter(({ connected }) => connected !== undefined);
  expect(reached.length).toBeGreaterThan(0);
  expect(reached.filter(({ connected = '' }) => REFUSED.includes(connected))).toEqual([]);
  // The control's did leave, and each of them was counted.
  for (const address of REFUSED) expect(packets.outside[address], address).toBeGreaterThan(0);
});

verifies('gw.rebinding', 'a name that stays passes each time', () => {
  for (const attempts of [inside, outside]) {
    for (const turn of [1, 2]) expect(outcomeOf(attempts[`stays.example ${turn}`])).toBe(PUBLIC);
  }
  expect(refusalsOf('stays.example')).toEqual([]);
});
