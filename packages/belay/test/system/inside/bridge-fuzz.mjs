// An agent that means harm to its bridge: seeded random and mutated packets, floods, resets and
// crowds, in batches. After each batch everything of it is closed, and an ordinary call and an
// ordinary question have to work. One JSON line a batch.
//
//   node bridge-fuzz.mjs SEED ROUNDS HOST

import dgram from 'node:dgram';
import https from 'node:https';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';

const [seed, rounds, host] = process.argv.slice(2);
const RESOLVERS = ['192.0.0.1', '8.8.8.8', '203.0.113.9', '2001:4860:4860::8888', 'fd00:be1a::1'];
const PLACES = ['192.0.0.1', '93.184.216.34', '169.254.169.254', '2001:db8::5', host];
const PORTS = [1, 53, 80, 443, 3128, 15001, 61000];
const random = numbers(Number(seed));
const upTo = (n) => Math.floor(random() * n);
const oneOf = (list) => list[upTo(list.length)];
const bytes = (n) => Buffer.from(Array.from({ length: n }, () => upTo(256)));
let floods = 0;

function query(name, qtype = 1) {
  const header = Buffer.from([upTo(256), upTo(256), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Buffer.concat([header, Buffer.from([...labels, 0, 0, qtype, 0, 1])]);
}

function mutated(valid) {
  let packet = Buffer.from(valid);
  for (let i = upTo(6); i > 0; i--) {
    const at = upTo(packet.length);
    const kind = upTo(4);
    if (kind === 0) packet[at] = upTo(256);
    else if (kind === 1) packet = packet.subarray(0, Math.max(1, at));
    else if (kind === 2) packet = Buffer.concat([packet, bytes(upTo(40))]);
    else packet = Buffer.concat([packet.subarray(0, at), packet.subarray(upTo(packet.length))]);
    if (packet.length === 0) packet = bytes(1);
  }
  return packet;
}

/** Sends every packet to some resolver; counts answers by their code. */
async function ask(packets, settleMs = 150) {
  const sockets = ['udp4', 'udp6'].map((type) => dgram.createSocket(type));
  const codes = {};
  for (const socket of sockets) {
    socket.on('error', () => {});
    socket.on('message', (answer) => {
      const code = answer.length < 4 ? 'short' : answer[3] & 15;
      codes[code] = (codes[code] ?? 0) + 1;
    });
  }
  let sent = 0;
  for (const packet of packets) {
    const to = oneOf(RESOLVERS);
    const socket = sockets[to.includes(':') ? 1 : 0];
    await new Promise((done) => socket.send(packet, 53, to, done));
    sent += 1;
    // The link's queue is short, and a packet that is lost tries nothing.
    if (sent % 40 === 0) await sleep(1);
  }
  await sleep(settleMs);
  for (const socket of sockets) socket.close();
  return { sent, codes };
}

/** Opens connections and does something to each; answers when all are closed. */
async function crowd(count, act, holdMs = 0) {
  const all = new Set();
  /** Those that are open and that the other side has not ended. */
  const carried = new Set();
  let opened = 0;
  for (let i = 0; i < count; i++) {
    const socket = net.connect({ host: oneOf(PLACES), port: oneOf(PORTS), allowHalfOpen: true });
    all.add(socket);
    socket.on('error', () => {}).resume();
    socket.on('connect', () => {
      opened += 1;
      carried.add(socket);
      act(socket);
    });
    socket.on('end', () => carried.delete(socket));
    socket.on('close', () => {
      all.delete(socket);
      carried.delete(socket);
    });
    if (i % 100 === 99) await sleep(5);
  }
  await sleep(400 + holdMs);
  const held = carried.size;
  for (const socket of all) socket.destroy();
  for (let i = 0; i < 100 && all.size > 0; i++) await sleep(20);
  return { sent: count, opened, held };
}

/** What a client of TLS says first; its keys are its own, so a seed does not repeat them. */
const HELLO = await new Promise((resolve) => {
  const server = net.createServer((socket) => {
    socket
      .on('error', () => {})
      .once('data', (first) => {
        socket.destroy();
        server.close();
        resolve(first);
      });
  });
  server.listen(0, '127.0.0.1', () => {
    tls.connect({ port: server.address().port, servername: host }).on('error', () => {});
  });
});
const HTTP = Buffer.from(
  `POST /fuzz?a=b HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 5\r\n` +
    'Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
);

const BATCHES = {
  'random datagrams': () => ask(Array.from({ length: 400 }, () => bytes(upTo(300)))),
  'mutated questions': () =>
    ask(
      Array.from({ length: 400 }, () =>
        mutated(query(oneOf([host, 'a.b', 'x'.repeat(63)]), upTo(256))),
      ),
    ),
  'sizes of datagrams': () =>
    ask(
      [0, 1, 2, 11, 12, 16, 17, 18, 511, 512, 513, 4095, 4096, 4097, 9000, 65_507].flatMap(
        (size) => {
          const valid = query(host);
          const padded = Buffer.concat([valid, bytes(Math.max(0, size - valid.length))]);
          return [bytes(size), padded.subarray(0, size)];
        },
      ),
    ),
  'new names': () => {
    floods += 1;
    const nth = (_, i) => query(`n${floods}-${i}-${seed}.flood.example`);
    return ask(Array.from({ length: 1500 }, nth));
  },
  'half open': () => crowd(120, (socket) => void (upTo(2) === 0 ? socket.end() : undefined)),
  resets: () =>
    crowd(300, (socket) => {
      if (upTo(2) === 0) socket.write(bytes(1 + upTo(64)));
      if (upTo(2) === 0) socket.resetAndDestroy();
      else setTimeout(() => socket.resetAndDestroy(), upTo(20));
    }),
  'random bytes': () => crowd(150, (socket) => void socket.end(bytes(1 + upTo(2000)))),
  'mutated openings': () => crowd(150, (socket) => void socket.end(mutated(oneOf([HELLO, HTTP])))),
  'many at once': () => crowd(1300, () => {}, 1500),
};

/** The status of an ordinary call, tried until the crowd has gone. */
async function call(path) {
  let last;
  for (let i = 0; i < 40; i++) {
    last = await new Promise((resolve) => {
      const asked = https.get({ host, path, agent: false, timeout: 5000 }, (answer) => {
        answer
          .resume()
          .on('end', () => resolve(answer.statusCode))
          .on('error', () => resolve('cut'));
      });
      asked.on('timeout', () => asked.destroy(new Error('late')));
      asked.on('error', ({ code, message }) => resolve(code ?? message));
    });
    if (last === 200) return last;
    await sleep(100);
  }
  return last;
}

/** Whether an ordinary question about a known name is answered. */
async function question() {
  for (let i = 0; i < 20; i++) {
    const { codes } = await ask([query(host)], 50);
    if (codes[0] === 1) return true;
  }
  return false;
}

for (let round = 0; round < Number(rounds); round++) {
  for (const [kind, batch] of Object.entries(BATCHES)) {
    const figures = await batch();
    const after = { call: await call(`/${round}`), question: await question() };
    console.log(JSON.stringify({ round, kind, ...figures, after }));
  }
}

/** Numbers in [0, 1) that a seed repeats (mulberry32). */
function numbers(start) {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}
