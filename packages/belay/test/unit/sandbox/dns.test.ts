// DNS as the bridge speaks it: what it answers, and that no packet can make it do anything else.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  createFakeNames,
  createRate,
  parseQuery,
  QTYPE,
  RCODE,
  reply,
} from '../../../src/sandbox/dns.ts';

function query(name: string, qtype = 1, flags = 0x0100, qclass = 1): Buffer {
  const labels = name === '' ? [] : name.split('.');
  const header = Buffer.from([0x12, 0x34, flags >> 8, flags & 255, 0, 1, 0, 0, 0, 0, 0, 0]);
  const question = labels.flatMap((label) => [label.length, ...Buffer.from(label, 'latin1')]);
  return Buffer.concat([header, Buffer.from([...question, 0, 0, qtype, 0, qclass])]);
}

test('a question is parsed and its name is canonical', () => {
  const question = parseQuery(query('Example.COM'));
  expect(question).toMatchObject({ id: 0x1234, name: 'example.com', qtype: 1 });
  expect(question?.bytes.toString('latin1')).toContain('Example');
});

test('a reply echoes the question and carries one address', () => {
  const question = parseQuery(query('Example.com'));
  if (question === undefined) throw new Error('not parsed');
  const bytes = reply(question, RCODE.none, '198.18.1.2');
  expect(bytes.readUInt16BE(2)).toBe(0x8180);
  expect([bytes.readUInt16BE(4), bytes.readUInt16BE(6)]).toEqual([1, 1]);
  expect(bytes.subarray(12, 12 + question.bytes.length)).toEqual(question.bytes);
  expect([...bytes.subarray(-4)]).toEqual([198, 18, 1, 2]);
  const empty = reply(question, RCODE.failed);
  expect([empty.readUInt16BE(2) & 15, empty.readUInt16BE(6)]).toEqual([2, 0]);
});

test('what is not one plain question has no answer', () => {
  const pointer = Buffer.concat([query('').subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]);
  const loop = Buffer.concat([query('').subarray(0, 12), Buffer.from([0x80, 1, 0, 0, 1, 0, 1])]);
  const two = query('a.b');
  two.writeUInt16BE(2, 4);
  const answer = query('a.b', 1, 0x8180);
  const update = query('a.b', 1, 0x2800);
  const chaos = query('a.b', 1, 0x0100, 3);
  const cut = query('example.com').subarray(0, 20);
  const endless = Buffer.concat([
    query('').subarray(0, 12),
    Buffer.from(Array.from({ length: 3000 }, () => [1, 97]).flat()),
  ]);
  const packets = [pointer, loop, two, answer, update, chaos, cut, endless, Buffer.alloc(12)];
  for (const packet of packets) expect(parseQuery(packet)).toBeUndefined();
});

test('a name that two programs could read differently is no name', () => {
  for (const name of ['attacker\0.example.com', 'a b.c', '1.2.3.4', '0x7f.1', 'é.com', '']) {
    expect(parseQuery(query(name))?.name).toBeUndefined();
  }
  const dotted = query('x.com');
  dotted[13] = 0x2e; // a dot within a label
  expect(parseQuery(dotted)?.name).toBeUndefined();
});

test('no packet makes the parser throw', () => {
  const valid = query('www.example.com');
  const mutated = fc
    .array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 })
    .map((changes) => {
      const packet = Buffer.from(valid);
      for (const [at, value] of changes) packet[at] = value;
      return packet;
    });
  const random = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(random, mutated), (packet) => {
      const question = parseQuery(packet);
      if (question === undefined) return;
      const bytes = reply(question, RCODE.none, '198.18.0.1');
      expect(bytes.length).toBeLessThan(12 + 255 + 4 + 16 + 4);
    }),
    { numRuns: 20_000 },
  );
});

test('each name has one address, and a full table has no more', () => {
  const names = createFakeNames(1000);
  const seen = new Set<string>();
  for (let i = 0; i < 1000; i++) seen.add(names.addressOf(`n${i}.example`) as string);
  expect(seen.size).toBe(1000);
  expect(names.addressOf('one.more')).toBeUndefined();
  expect(names.addressOf('n7.example')).toBe(names.addressOf('n7.example'));
  expect(names.nameOf(names.addressOf('n999.example') as string)).toBe('n999.example');
  for (const address of seen) expect(address).toMatch(/^198\.1[89]\./);
});

test('the largest table stays within its network', () => {
  const names = createFakeNames(60_000);
  let last = '';
  for (let i = 0; i < 60_000; i++) last = names.addressOf(`n${i}`) as string;
  expect(last).toBe('198.18.234.96');
});

test('new names come in bursts and then at a rate', () => {
  let now = 0;
  const may = createRate(3, 10, () => now);
  expect([may(), may(), may(), may()]).toEqual([true, true, true, false]);
  now = 100;
  expect([may(), may()]).toEqual([true, false]);
  now = 10_000;
  expect([may(), may(), may(), may()]).toEqual([true, true, true, false]);
});

test('types have their numbers', () => {
  expect(QTYPE).toEqual({ A: 1, PTR: 12 });
});
