// An agent that opens connections of every kind and ends them in every way, many at a time, first a few
// and then many. Between the two, and at the end, it says so and waits for a file.
//
//   node mixed-connections.mjs FEW MANY FOLDER

import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';

const [few, many, folder] = process.argv.slice(2);
const AT_ONCE = 40;
const HOST = 'api.example';

const closed = (socket) =>
  new Promise((resolve) => {
    socket.on('error', () => {}).on('close', resolve);
    socket.setTimeout(20_000, () => socket.destroy());
  });

function raw(act, options = { host: HOST, port: 443 }) {
  const socket = net.connect(options, () => act(socket));
  return closed(socket);
}

function secure(act) {
  const socket = tls.connect({ host: HOST, port: 443, servername: HOST }, () => act(socket));
  return closed(socket);
}

function ask(options, body, onResponse = (response) => response.resume()) {
  return new Promise((resolve) => {
    const asked = https.request({ host: HOST, agent: false, ...options }, (response) => {
      response.on('error', () => {}).on('close', resolve);
      onResponse(response, asked);
    });
    asked.on('error', resolve);
    asked.on('close', resolve);
    asked.end(body);
  });
}

const KEY = crypto.randomBytes(16).toString('base64');
const HELLO = Buffer.from('16030100c8010000c40303', 'hex');
const UPGRADE = `GET /ws HTTP/1.1\r\nHost: ${HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n\r\n`;

const KINDS = [
  () => ask({ path: '/' }),
  () => ask({ path: '/', method: 'POST' }, Buffer.alloc(100_000)),
  () => ask({ path: '/', host: 'denied.example' }),
  // Ended in the middle of an answer, of a request, of a handshake, before and behind a first byte.
  () =>
    ask({ path: '/slow' }, undefined, (response, asked) =>
      response.once('data', () => asked.destroy()),
    ),
  () =>
    secure((socket) =>
      socket.write(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: 9000\r\n\r\nx`, () =>
        socket.destroy(),
      ),
    ),
  () => raw((socket) => socket.write(HELLO, () => socket.destroy())),
  () => raw((socket) => socket.destroy()),
  () => raw((socket) => socket.end('neither TLS nor HTTP\n')),
  () =>
    secure((socket) => {
      socket.write(UPGRADE);
      socket.once('data', () => socket.destroy());
    }),
  () =>
    raw(
      (socket) => {
        socket.write('hello\n');
        socket.once('data', () => socket.destroy());
      },
      { host: 'db.example', port: 5432 },
    ),
  () => ask({ path: '/', method: 'POST', headers: { 'transfer-encoding': 'chunked' } }, 'x'),
  () =>
    secure((socket) =>
      socket.write(`GET /slow HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`.repeat(5), () => socket.destroy()),
    ),
];

async function connections(count) {
  let next = 0;
  const one = async () => {
    while (next < count) {
      const kind = KINDS[next % KINDS.length];
      next += 1;
      await kind();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

async function until(name) {
  const deadline = Date.now() + 600_000;
  while (!fs.existsSync(`${folder}/${name}`) && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

await connections(Number(few));
console.log('few');
await until('more');
await connections(Number(many));
console.log('many');
await until('end');
