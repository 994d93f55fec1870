// Makes planned requests with an HTTP/1.1 writer and reader of its own (RFC 9112), and prints what it
// heard of each: nothing is decoded, joined, followed or left out.
//
//   node differential.mjs PLAN HOST [ADDRESS:PORT]
//
// Straight to an ADDRESS it sends nothing ahead: node:http, which is the origin, breaks such a
// connection off (HPE_PAUSED) when it has much to answer.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';

const [planPath, host, straight] = process.argv.slice(2);
const address = straight ?? `${host}:443`;
const AT_ONCE = 4;
const ANSWER_TIMEOUT_MS = 20_000;
const SILENT_MS = 50;
const CRLF = '\r\n';

const bytesFor = (n, size) =>
  size === 0
    ? Buffer.alloc(0)
    : createHash('shake256', { outputLength: size }).update(`body ${n}`).digest();

/** What has arrived on a socket, to be taken in the order in which it came. */
class Incoming {
  #have = Buffer.alloc(0);
  #ended = false;
  #wake = () => {};
  constructor(socket) {
    socket.on('data', (chunk) => {
      this.#have = this.#have.length === 0 ? chunk : Buffer.concat([this.#have, chunk]);
      this.#wake();
    });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    socket.on('end', end).on('close', end).on('error', end);
  }

  /** Waits for more; false at the end. */
  async #more() {
    if (this.#ended) return false;
    const { promise, resolve, reject } = Promise.withResolvers();
    const timer = setTimeout(() => reject(new Error('no answer in time')), ANSWER_TIMEOUT_MS);
    this.#wake = resolve;
    await promise.finally(() => clearTimeout(timer));
    return true;
  }

  #take(count) {
    const taken = this.#have.subarray(0, count);
    this.#have = this.#have.subarray(count);
    return taken;
  }

  async line() {
    for (;;) {
      const at = this.#have.indexOf(CRLF);
      if (at !== -1) return this.#take(at + 2).toString('latin1', 0, at);
      if (!(await this.#more())) throw new Error('the connection ended within a line');
    }
  }

  /** Hands `count` bytes, or all up to the end, to `sink`. */
  async pass(count, sink) {
    for (let left = count; left > 0; ) {
      const part = this.#take(Math.min(left, this.#have.length));
      sink(part);
      left -= part.length;
      if (left === 0 || (await this.#more())) continue;
      if (count === Number.POSITIVE_INFINITY) return void sink(this.#take(this.#have.length));
      throw new Error(`the connection ended ${left} bytes early`);
    }
  }

  async fields() {
    const fields = [];
    for (let line = await this.line(); line !== ''; line = await this.line()) {
      const [, name, value] = /^([^\s:]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
      if (name === undefined) throw new Error(`no field: ${JSON.stringify(line)}`);
      fields.push([name.toLowerCase(), value]);
    }
    return fields;
  }

  async head() {
    const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(await this.line()) ?? [];
    if (status === undefined) throw new Error('no status line');
    return { status: Number(status), fields: await this.fields() };
  }
}

async function readAnswer(incoming, { n, method }) {
  let head = await incoming.head();
  // Interim answers are each hop's own.
  while (head.status < 200) head = await incoming.head();
  const value = (wanted) => head.fields.find(([name]) => name === wanted)?.[1];
  const hash = createHash('sha256');
  let sizeBytes = 0;
  const sink = (part) => {
    hash.update(part);
    sizeBytes += part.length;
  };
  let trailers = [];
  let toTheEnd = false;
  if (method === 'HEAD' || head.status === 204 || head.status === 304) {
    // No body, whatever the fields say.
  } else if (value('transfer-encoding') !== undefined) {
    for (;;) {
      const size = Number.parseInt(await incoming.line(), 16);
      if (size === 0) break;
      await incoming.pass(size, sink);
      if ((await incoming.line()) !== '') throw new Error('a chunk longer than it says');
    }
    trailers = await incoming.fields();
  } else if (value('content-length') !== undefined) {
    await incoming.pass(Number(value('content-length')), sink);
  } else {
    toTheEnd = true;
    await incoming.pass(Number.POSITIVE_INFINITY, sink);
  }
  const closes = toTheEnd || value('connection') === 'close';
  const said = { n, ...head, sizeBytes, sha256: hash.digest('hex'), trailers };
  return { said, closes };
}

function headOf({ method, target, fields, body, expects }) {
  const framing = {
    none: [],
    length: [['Content-Length', body.sizeBytes]],
    chunked: [['Transfer-Encoding', 'chunked']],
  }[body.framing];
  const all = [
    ['Host', host],
    ...fields,
    ...framing,
    ...(expects ? [['Expect', '100-continue']] : []),
  ];
  const lines = all.map(([name, value]) => `${name}: ${value}${CRLF}`);
  return Buffer.from(`${method} ${target} HTTP/1.1${CRLF}${lines.join('')}${CRLF}`, 'latin1');
}

function bodyOf({ n, body }) {
  const bytes = bytesFor(n, body.sizeBytes);
  if (body.framing !== 'chunked') return bytes;
  const parts = [];
  // Chunks of odd sizes, each of them other than the one before.
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7 + n) % 50_000 || 1) {
    const part = bytes.subarray(at, at + size);
    parts.push(`${part.length.toString(16)}${CRLF}`, part, CRLF);
  }
  return Buffer.concat([...parts, `0${CRLF}${CRLF}`].map((part) => Buffer.from(part)));
}

function open() {
  const [name, port] = address.split(':');
  const socket = connect({
    host: name,
    port: Number(port),
    servername: host,
    rejectUnauthorized: false,
    ALPNProtocols: ['http/1.1'],
  });
  // What goes wrong is seen by who reads.
  socket.on('error', () => {});
  return { socket, incoming: new Incoming(socket) };
}

async function converse({ ahead, requests }) {
  let link;
  if (ahead && straight === undefined) {
    link = open();
    // All of it is sent before any answer is read.
    link.socket.pause();
    setTimeout(() => link.socket.resume(), SILENT_MS);
    link.socket.write(Buffer.concat(requests.flatMap((one) => [headOf(one), bodyOf(one)])));
    for (const one of requests) print((await readAnswer(link.incoming, one)).said);
    link.socket.destroy();
    return;
  }
  for (const one of requests) {
    link ??= open();
    const { socket, incoming } = link;
    socket.write(headOf(one));
    if (one.expects) {
      const { status } = await incoming.head();
      if (status !== 100) throw new Error(`${one.n}: ${status} instead of 100`);
    }
    socket.write(bodyOf(one));
    const { said, closes } = await readAnswer(incoming, one);
    print(said);
    if (!closes) continue;
    socket.destroy();
    link = undefined;
  }
  link?.socket.destroy();
}

function print(said) {
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

const waiting = JSON.parse(readFileSync(planPath, 'utf8'));
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) {
      await converse(one).catch((error) => {
        const numbers = one.requests.map(({ n }) => n);
        process.stderr.write(`requests ${numbers}: ${error.message}\n`);
        process.exitCode = 1;
      });
    }
  }),
);
