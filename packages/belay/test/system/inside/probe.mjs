// What an agent might try, as one program: it reads a JSON list of attempts from the file
// that it is given, makes them in order and prints what came of each as JSON. It runs unchanged inside a sandbox and, as a control, outside.
// Plain JavaScript and perl, so that /usr and one Node are all it needs.

import { spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import { promises as dns, Resolver } from 'node:dns';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { KERNEL_ATTEMPTS } from './kernel-probe.mjs';

const TIMEOUT_MS = 4_000;
const MOST_TEXT = 4_000;

const pids = () => fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));

function quietly(read) {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** A text that must not stand in the list of attempts itself comes in parts. */
const whole = (text) => (Array.isArray(text) ? text.join('') : text);

/** The processes other than this one in whose environment or arguments a text stands. */
function environScan(parts) {
  const text = whole(parts);
  const mine = String(process.pid);
  const found = [];
  for (const pid of pids()) {
    for (const file of ['environ', 'cmdline']) {
      const bytes = quietly(() => fs.readFileSync(`/proc/${pid}/${file}`));
      if (bytes?.includes(text) && pid !== mine) found.push(`${pid}/${file}`);
    }
  }
  return found;
}

/** Whether a text stands in the memory of one process. */
function memory(pid, text) {
  const maps = fs.readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n');
  const fd = fs.openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of maps) {
      const range = /^([0-9a-f]+)-([0-9a-f]+) rw.*(?:\[heap\]| 0 $|00:00 0)/.exec(line);
      if (range === null) continue;
      const from = Number.parseInt(range[1], 16);
      const bytes = Buffer.alloc(Math.min(Number.parseInt(range[2], 16) - from, 1 << 22));
      if (quietly(() => fs.readSync(fd, bytes, 0, bytes.length, from)) && bytes.includes(text)) {
        return true;
      }
    }
    return false;
  } finally {
    fs.closeSync(fd);
  }
}

/** The text in the memory of any process but this one, by the numbers seen from here. */
function memoryScan(parts) {
  const text = whole(parts);
  return pids().filter(
    (pid) => pid !== String(process.pid) && quietly(() => memory(pid, text)) === true,
  );
}

function perl(text, ...args) {
  const { stdout, stderr, status } = spawnSync('perl', ['-e', text, ...args], { encoding: 'utf8' });
  return { status, out: stdout.trim(), err: stderr.trim() };
}

/** PTRACE_ATTACH; answers `attached` or the error. */
function ptrace(pid) {
  const nr = process.arch === 'x64' ? 101 : 117;
  return perl(
    `if (syscall(${nr}, 16, $ARGV[0] + 0, 0, 0) == 0) { waitpid $ARGV[0] + 0, 0x40000000;
     syscall(${nr}, 17, $ARGV[0] + 0, 0, 0); print "attached" } else { print "$!" }`,
    String(pid),
  ).out;
}

function connects(options) {
  return new Promise((resolve) => {
    const socket = net.connect(options);
    const done = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(TIMEOUT_MS, () => done('timeout'));
    socket.on('connect', () => done('connected'));
    socket.on('error', (error) => done(error.code ?? error.message));
  });
}

/** Connects, says something, and answers what came back within the time. */
function talk(host, port, text, waitMs = TIMEOUT_MS) {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    let heard = '';
    let state = 'not connected';
    const done = () => {
      socket.destroy();
      resolve({ state, heard: heard.slice(0, MOST_TEXT) });
    };
    const timer = setTimeout(done, waitMs);
    socket.on('connect', () => {
      state = 'connected';
      socket.write(text);
    });
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1');
    });
    socket.on('error', (error) => {
      state = error.code ?? error.message;
    });
    socket.on('close', () => {
      clearTimeout(timer);
      done();
    });
  });
}

const latin1 = (text) => Buffer.from(text, 'latin1');

/** Finishes TLS on a socket, whoever signed for the name. */
function secured(socket, servername, ALPNProtocols = ['http/1.1']) {
  return new Promise((resolve, reject) => {
    const secure = tls.connect(
      { socket, servername, ALPNProtocols, checkServerIdentity: () => undefined },
      () => resolve(secure),
    );
    secure.on('error', reject);
  });
}

/** Says bytes and hears until the other side closes or is quiet for a while. */
function exchange(socket, text, { quietMs = 700 } = {}) {
  return new Promise((resolve) => {
    let heard = '';
    let closed = false;
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ heard: heard.slice(0, MOST_TEXT), closed });
    };
    let timer = setTimeout(done, TIMEOUT_MS);
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1');
      clearTimeout(timer);
      timer = setTimeout(done, quietMs);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      closed = true;
      done();
    });
    socket.write(latin1(text));
  });
}

function opened(options) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(options, () => resolve(socket));
    socket.on('error', reject);
  });
}

/** What a proxy answers to its first request; the socket is at the first byte behind it. */
function answered(socket) {
  return new Promise((resolve) => {
    socket.once('data', (chunk) => resolve(chunk.toString('latin1')));
    socket.once('close', () => resolve(''));
  });
}

/**
 * Bytes as they are: over TLS or plainly to a host, or to the run's explicit proxy, where `{auth}`
 * stands for its credentials; `connect` is what the proxy hears first.
 */
async function raw({ host, port, servername, connect, text, alpn, ...how }) {
  try {
    const proxy = host === undefined ? new URL(process.env.HTTPS_PROXY) : undefined;
    const user = proxy && `${proxy.username}:${proxy.password}`;
    const field = user && `Proxy-Authorization: Basic ${Buffer.from(user).toString('base64')}`;
    const filled = (bytes) => bytes.replaceAll('{auth}', field ?? '');
    const at = proxy ? { host: proxy.hostname, port: Number(proxy.port) } : { host, port };
    let socket = await opened(at);
    if (connect !== undefined) {
      socket.write(latin1(filled(connect)));
      const heard = await answered(socket);
      if (!heard.startsWith('HTTP/1.1 200')) return { heard, closed: socket.destroyed };
    }
    if (servername !== undefined) socket = await secured(socket, servername, alpn);
    return await exchange(socket, filled(text), how);
  } catch (error) {
    return { heard: '', error: error.code ?? error.message };
  }
}

function request(url, { method = 'GET', headers = {}, body, sizeBytes, timeoutMs = 10_000 } = {}) {
  return new Promise((resolve) => {
    const door = url.startsWith('https:') ? https : http;
    let status;
    let text = '';
    let receivedBytes = 0;
    const answer = (error) =>
      resolve({ status, text: text.slice(0, MOST_TEXT), receivedBytes, ...(error && { error }) });
    const filled = Object.entries(headers).map(([name, value]) => [
      name,
      value.replace(/\$\{(\w+)\}/g, (_, variable) => process.env[variable] ?? ''),
    ]);
    const options = { method, headers: Object.fromEntries(filled), agent: false };
    const asked = door.request(url, options, (response) => {
      status = response.statusCode;
      response.on('data', (chunk) => {
        receivedBytes += chunk.length;
        if (text.length < MOST_TEXT) text += chunk.toString('utf8');
      });
      response.on('end', () => answer());
      response.on('error', (error) => answer(error.code ?? error.message));
    });
    // Of the socket: a request's own starts only once it is connected.
    asked.on('socket', (socket) => {
      socket.setTimeout(timeoutMs, () => asked.destroy(new Error('timeout')));
    });
    asked.on('error', (error) => answer(error.code ?? error.message));
    if (sizeBytes === undefined) return asked.end(body);
    // A streamed body of zeros, chunked.
    let left = sizeBytes;
    const more = () => {
      while (left > 0) {
        const size = Math.min(left, 65_536);
        left -= size;
        if (!asked.write(Buffer.alloc(size))) return asked.once('drain', more);
      }
      asked.end();
    };
    more();
  });
}

/** Asks DNS for a name that /etc/hosts has too, and goes where DNS says. */
async function requestByDns(name, port) {
  const found = await lookup(name, '203.0.113.53');
  if (!Array.isArray(found)) return { error: found };
  return await request(`http://${found[0]}:${port}/`, { headers: { host: `${name}:${port}` } });
}

/** A stream of events, each of which waits for the answer of a request that is sent after the one before. */
async function events(url, ackUrl) {
  const seen = [];
  const stream = await new Promise((resolve, reject) => {
    https.get(url, { agent: false }, resolve).on('error', reject);
  });
  for await (const chunk of stream) {
    seen.push(chunk.toString('utf8').trim());
    await request(`${ackUrl}?n=${seen.length}`);
  }
  return seen;
}

/** A WebSocket of the platform: says texts, one after each answer, and answers all that it heard. */
function webSocket(url, texts) {
  return new Promise((resolve) => {
    const heard = [];
    const left = [...texts];
    const socket = new WebSocket(url);
    const timer = setTimeout(() => socket.close(), TIMEOUT_MS);
    const next = () => {
      if (left.length === 0) socket.close(1000);
      else socket.send(left.shift());
    };
    socket.onopen = next;
    socket.onmessage = ({ data }) => {
      heard.push(data);
      next();
    };
    socket.onclose = ({ code }) => {
      clearTimeout(timer);
      resolve({ heard, code });
    };
    socket.onerror = () => {};
  });
}

function issuer(host, port, { servername = host, ca } = {}) {
  return new Promise((resolve) => {
    const trust = ca && { ca: fs.readFileSync(ca) };
    const socket = tls.connect({ host, port, servername, ...trust }, () => {
      const { issuer, subjectaltname } = socket.getPeerCertificate();
      resolve({ issuer: issuer.CN, names: subjectaltname, trusted: socket.authorized });
      socket.destroy();
    });
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('timeout')));
    socket.on('error', (error) => resolve({ error: error.code ?? error.message }));
  });
}

/** Sends a datagram and answers what came back, or the error that the network reported. */
function udp(host, port) {
  return new Promise((resolve) => {
    const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const done = (answer) => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => done('silence'), 1_000);
    socket.on('error', (error) => done(error.code ?? error.message));
    socket.on('message', (bytes) => done(`answer: ${bytes.toString('latin1').slice(0, 100)}`));
    socket.connect(port, host, (error) => {
      if (error) done(error.code ?? error.message);
      else socket.send('hello');
    });
  });
}

async function lookup(name, server) {
  if (server === undefined) {
    return await dns.lookup(name, { all: true }).catch((error) => error.code);
  }
  const resolver = new Resolver({ timeout: 1_000, tries: 1 });
  resolver.setServers([server]);
  return await new Promise((resolve) => {
    resolver.resolve4(name, (error, found) => resolve(error ? error.code : found));
  });
}

async function lookupText(name) {
  return await dns.resolveTxt(name).catch((error) => error.code);
}

const servers = [];

/** Servers of this program's own: each answers whatever it hears with `here`. */
async function serve(tcpPorts, udpPorts = [], host = '0.0.0.0') {
  const opened = [];
  for (const port of tcpPorts) {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => {
        socket.end('HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhere');
      });
    });
    servers.push(server);
    opened.push(
      await new Promise((resolve) => {
        server.once('error', (error) => resolve(error.code));
        server.listen(port, host, () => resolve(port));
      }),
    );
  }
  for (const port of udpPorts) {
    const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
    socket.on('message', (_, from) => socket.send('here', from.port, from.address));
    servers.push(socket);
    await new Promise((resolve) => socket.bind(port, host, resolve));
    opened.push(port);
  }
  return opened;
}

function shell(script) {
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' });
  return { status, out: stdout.trim(), err: stderr.trim() };
}

/** Every file that can be read from here and holds the text; /proc, /sys and /usr have their own. */
function fileScan(parts) {
  const text = whole(parts);
  const found = [];
  const queue = ['/'];
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    for (const entry of quietly(() => fs.readdirSync(at, { withFileTypes: true })) ?? []) {
      const path = at === '/' ? `/${entry.name}` : `${at}/${entry.name}`;
      if (['/proc', '/sys', '/usr', '/dev'].includes(path)) continue;
      if (entry.isDirectory()) {
        if (entry.name !== 'node_modules') queue.push(path);
      } else if (entry.isFile()) {
        const size = quietly(() => fs.statSync(path).size) ?? 0;
        if (size < 8 << 20 && quietly(() => fs.readFileSync(path))?.includes(text))
          found.push(path);
      }
    }
  }
  return found;
}

const ATTEMPTS = {
  env: () => process.env,
  ids: () => ({ uid: process.getuid(), gid: process.getgid() }),
  read: (path) => fs.readFileSync(path, 'utf8').slice(0, MOST_TEXT),
  owner: (path) => fs.statSync(path).uid,
  environScan,
  memory,
  memoryScan,
  ptrace,
  unix: (path) => connects({ path }),
  tcp: (host, port) => connects({ host, port }),
  talk,
  request,
  requests: (url, count, options) =>
    Promise.all(Array.from({ length: count }, () => request(url, options))),
  requestByDns,
  raws: (rows) => Promise.all(rows.map(raw)),
  issuer,
  events,
  webSocket,
  udp,
  lookup,
  lookupText,
  serve,
  shell,
  fileScan,
  perl,
  ...KERNEL_ATTEMPTS,
};

const results = [];
for (const [name, ...args] of JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))) {
  try {
    results.push({ name, value: await ATTEMPTS[name](...args) });
  } catch (error) {
    results.push({ name, error: error.code ?? error.message });
  }
}
process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit(0));
