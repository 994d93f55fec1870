// Packets of an agent at the DNS of its bridge, as the installed package has it: no packet throws; what
// is read as a question is one to another reader as well, with the same name and type; its reply is the
// reply of RFC 1035 to this packet, never longer than the question and one address; and a name means one
// address, an address one name.
//
//   node dns-fuzz.ts [SECONDS] [SEED]

import type * as Dns from '../../src/sandbox/dns.ts';
import { FULL_SECONDS, type FuzzFigures, fuzz, type Judged } from './fuzzer.ts';
import { installedModule } from './installed-module.ts';
import type { Chance } from './random.ts';

export const covers = ['packages/belay/src/sandbox'];
const ADDRESS_BYTES = 16;
const MOST_NAMES = 4_096;
const FAKE = /^198\.1[89]\.\d{1,3}\.\d{1,3}$/;

/** Throws when a promise does not hold. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<FuzzFigures> {
  return await fuzzDns(FULL_SECONDS * size.scale, size.seed);
}

async function fuzzDns(seconds: number, seed: number): Promise<FuzzFigures> {
  const dns = (await installedModule('sandbox/dns.js')) as typeof Dns;
  const names = dns.createFakeNames(MOST_NAMES);
  const judge = (packet: Buffer, draw: Chance): Judged => {
    const before = Buffer.from(packet);
    const question = dns.parseQuery(packet);
    if (!before.equals(packet)) return { problem: 'reading a packet changed it' };
    if (question === undefined) return { sort: `none ${sortOf(packet)}` };
    const read = readMessage(packet);
    if (typeof read === 'string') return { problem: `a question in what is ${read}` };
    if (read.answers.length > 0 || read.response) return { problem: 'an answer became a question' };
    const { name, qtype } = question;
    if (qtype !== read.qtype) return { problem: `type ${read.qtype} became ${qtype}` };
    if (name !== undefined && name !== read.labels.join('.').toLowerCase()) {
      return { problem: `\`${read.labels.join('.')}\` became \`${name}\`` };
    }
    const address = name === undefined ? undefined : names.addressOf(name);
    if (address !== undefined && (!FAKE.test(address) || names.nameOf(address) !== name)) {
      return { problem: `\`${name}\` has the address ${address}, which means another` };
    }
    const rcode = draw.of(Object.values(dns.RCODE));
    const problem = replyProblem(packet, read, dns.reply(question, rcode, address), rcode, address);
    if (problem !== undefined) return { problem };
    return { sort: `${name === undefined ? 'no host' : 'a host'} of ${read.labels.length}` };
  };
  const words = ['\x03www', '\x00', '\xc0\x0c', '\x3f', '\x40', '\x00\x01\x00\x01', '\x00\x1c'];
  return await fuzz({ name: 'dns', words, judges: [judge] }, { seconds, seed });
}

function replyProblem(
  packet: Buffer,
  asked: Message,
  reply: Buffer,
  rcode: number,
  address: string | undefined,
): string | undefined {
  const read = readMessage(reply);
  if (typeof read === 'string') return `the reply is ${read}`;
  if (read.id !== asked.id || !read.response) return 'the reply is to another packet';
  if (read.rcode !== rcode || read.recursionDesired !== asked.recursionDesired) {
    return 'the reply has other flags';
  }
  // Resolvers compare the name with its capitals.
  if (!read.question.equals(asked.question)) return 'the reply repeats another question';
  const expected = address === undefined ? [] : [address];
  if (read.answers.join() !== expected.join()) return `the reply answers ${read.answers}`;
  if (reply.length > packet.length + ADDRESS_BYTES) return `a reply of ${reply.length} bytes`;
  return undefined;
}

interface Message {
  readonly id: number;
  readonly response: boolean;
  readonly rcode: number;
  readonly recursionDesired: boolean;
  readonly labels: readonly string[];
  readonly qtype: number;
  readonly question: Buffer;
  readonly answers: readonly string[];
}

/** RFC 1035 section 4, for one question of the internet and addresses; or what it is instead. */
function readMessage(bytes: Buffer): Message | string {
  if (bytes.length < 12) return 'too short';
  const [id, flags, questions, answers] = [0, 2, 4, 6].map((at) => bytes.readUInt16BE(at)) as [
    number,
    number,
    number,
    number,
  ];
  if (questions !== 1) return `of ${questions} questions`;
  const labels: string[] = [];
  let at = 12;
  for (;;) {
    const size = bytes[at++];
    if (size === undefined) return 'a name without an end';
    if (size === 0) break;
    if (size > 63) return 'a compressed name';
    if (at + size > bytes.length) return 'a label that is cut';
    labels.push(bytes.subarray(at, at + size).toString('latin1'));
    at += size;
  }
  if (at - 12 > 255) return 'a name that is too long';
  if (at + 4 > bytes.length) return 'a question that is cut';
  if (bytes.readUInt16BE(at + 2) !== 1) return 'of another class';
  const question = bytes.subarray(12, at + 4);
  const qtype = bytes.readUInt16BE(at);
  at += 4;
  const found: string[] = [];
  for (let i = 0; i < answers; i++) {
    const record = bytes.subarray(at, at + ADDRESS_BYTES);
    const head = 'c00c00010001000000050004';
    if (record.toString('hex', 0, 12) !== head || record.length < ADDRESS_BYTES) {
      return 'an answer that is no address';
    }
    found.push([...record.subarray(12)].join('.'));
    at += ADDRESS_BYTES;
  }
  return {
    id,
    response: (flags & 0x8000) !== 0,
    rcode: flags & 15,
    recursionDesired: (flags & 0x0100) !== 0,
    labels,
    qtype,
    question,
    answers: found,
  };
}

/** What another reader makes of a packet in which there is no question for us. */
function sortOf(packet: Buffer): string {
  const read = readMessage(packet);
  if (typeof read === 'string') return read.replace(/\d+/, 'n');
  return read.response ? 'a response' : 'a message';
}

if (import.meta.main) {
  const [seconds = '12', seed = String(Date.now() % 1e6)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await fuzzDns(Number(seconds), Number(seed)))}\n`);
}
