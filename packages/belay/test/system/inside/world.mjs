// Servers of a world that a test made: HTTP at addresses and ports, where each answers with the
// address at which it was reached, and a name server that reads its answers from a script: the first
// question of a name gets the first list of addresses, each later one the next, the last one stays.
// `control-NAME` follows the script of NAME with a count of its own. TTL is 0. Every connection and
// every question is a line of JSON on stdout. It ends with its stdin.
//
//   node world.mjs '{"listen": [[ADDRESS, PORT]], "dns": ADDRESS, "names": {NAME: [[ADDRESS]]}}'

import dgram from 'node:dgram';
import http from 'node:http';
import { isIPv6 } from 'node:net';

const [A, AAAA] = [1, 28];
const { listen, dns, names } = JSON.parse(process.argv[2]);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const asked = new Map();

function answersTo(name, type) {
  const script = names[name.replace(/^control-/, '')];
  if (script === undefined) return undefined;
  const key = `${name} ${type}`;
  const turn = asked.get(key) ?? 0;
  asked.set(key, turn + 1);
  const addresses = script[Math.min(turn, script.length - 1)];
  return addresses.filter((address) => (isIPv6(address) ? AAAA : A) === type);
}

/** RFC 4291 section 2.2, without the form that ends in an IPv4 address. */
function bytesOf(address) {
  if (!isIPv6(address)) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const words = (text) => (text ? text.split(':').map((word) => Number.parseInt(word, 16)) : []);
  const [left, right] = [words(head), words(tail)];
  const all = [...left, ...Array(8 - left.length - right.length).fill(0), ...right];
  return Buffer.from(all.flatMap((word) => [word >> 8, word & 255]));
}

/** One question, RFC 1035 section 4.1; what else a message holds is not read. */
function reply(message) {
  const labels = [];
  let at = 12;
  for (let size = message[at]; size > 0; size = message[at]) {
    labels.push(message.toString('latin1', at + 1, at + 1 + size));
    at += 1 + size;
  }
  const name = labels.join('.').toLowerCase();
  const question = message.subarray(12, at + 5);
  const type = message.readUInt16BE(at + 1);
  const found = answersTo(name, type);
  say({ asked: name, type, answers: found ?? null });
  const head = Buffer.alloc(12);
  head.writeUInt16BE(message.readUInt16BE(0), 0);
  head.writeUInt16BE(found === undefined ? 0x8183 : 0x8180, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(found?.length ?? 0, 6);
  const records = (found ?? []).map((address) => {
    const bytes = bytesOf(address);
    return Buffer.concat([
      Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, bytes.length]),
      bytes,
    ]);
  });
  return Buffer.concat([head, question, ...records]);
}

for (const [address, port] of listen) {
  const server = http.createServer((request, answer) => {
    say({ reached: address, port, host: request.headers.host });
    answer.writeHead(200, { connection: 'close' }).end(address);
  });
  server.on('connection', () => say({ connected: address, port }));
  await new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, address, resolve);
  });
}
if (dns !== undefined) {
  const socket = dgram.createSocket('udp4');
  socket.on('message', (message, from) => socket.send(reply(message), from.port, from.address));
  await new Promise((resolve) => socket.bind(53, dns, resolve));
}
process.stdin.resume().on('end', () => process.exit());
say({ ready: true });
