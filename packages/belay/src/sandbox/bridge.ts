// The bridge: the only way out of a sandbox. It lives in the parent of the agent's namespaces, takes
// every connection and every DNS question that the agent makes, and hands the bytes to the gateway
// over the run's unix socket, with one header line that says where the agent wanted to go. It
// decides nothing and resolves nothing. With it dead nothing connects. Everything that it reads from
// the agent is hostile; connections, names, and the rate of new names are bounded.
//
// Started by HOLD_AND_LISTEN (perl.ts) with the transparent listener on descriptor 3 and the pid of
// the agent's network namespace as its argument. Standard input is its lifeline.

import { createSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';
import { createFakeNames, createRate, parseQuery, QTYPE, RCODE, reply } from './dns.ts';
import { buildLink } from './link.ts';

/** Relative: the folders above the run's need no permission. */
const GATEWAY = 'gw.sock';
const LISTENER_FD = 3;
const MOST_CONNECTIONS = 1024;
const MOST_NAMES = 60_000;
const NEW_NAMES_BURST = 500;
const NEW_NAMES_PER_SECOND = 50;
const MOST_NOTICES_WAITING = 1000;
const MOST_NOTICES_AT_ONCE = 8;

const names = createFakeNames(MOST_NAMES);

// The terminal's keys are for the agent.
process.on('SIGINT', () => {}).on('SIGQUIT', () => {});
const leave = () => process.exit(0);
process.stdin.on('end', leave).on('error', leave).on('close', leave).resume();

/** Joins an accepted connection with one to the gateway, both ways, each half closed by itself. */
function carry(agent: Socket): void {
  const { localAddress, localPort } = agent;
  if (localAddress === undefined || localPort === undefined) {
    agent.destroy(); // it was reset before we looked
    return;
  }
  const dst = localAddress.replace(/^::ffff:/, '');
  const name = names.nameOf(dst);
  const header = { v: 1, dst, port: localPort, ...(name === undefined ? {} : { name }) };
  const gateway = connect({ path: GATEWAY, allowHalfOpen: true });
  gateway.write(`${JSON.stringify(header)}\n`);
  let gatewayEnded = false;
  gateway.on('end', () => {
    gatewayEnded = true;
  });
  // A reset on one side is an end without a farewell on the other: never mistaken for the whole.
  agent.on('error', () => gateway.destroy());
  agent.on('close', () => gateway.destroyed || gateway.destroySoon());
  gateway.on('error', () => agent.resetAndDestroy());
  gateway.on('close', () => gatewayEnded || agent.destroyed || agent.resetAndDestroy());
  agent.pipe(gateway);
  gateway.pipe(agent);
}

const waiting: string[] = [];
let telling = 0;

/** Tells the gateway of a new name; false when too many wait, and then nobody hears an address. */
function tell(name: string, qtype: number): boolean {
  if (waiting.length >= MOST_NOTICES_WAITING) return false;
  waiting.push(`${JSON.stringify({ v: 1, dns: name, qtype })}\n`);
  tellNext();
  return true;
}

function tellNext(): void {
  while (telling < MOST_NOTICES_AT_ONCE) {
    const line = waiting.shift();
    if (line === undefined) return;
    telling += 1;
    const gateway = connect({ path: GATEWAY });
    gateway.on('error', () => {}); // `close` follows, and without a gateway nothing connects anyway
    gateway.on('close', () => {
      telling -= 1;
      tellNext();
    });
    gateway.resume().end(line);
  }
}

const mayTell = createRate(NEW_NAMES_BURST, NEW_NAMES_PER_SECOND, () => performance.now());

function answer(packet: Buffer): Buffer | undefined {
  const question = parseQuery(packet);
  if (question === undefined) return undefined;
  const { name, qtype } = question;
  if (qtype === QTYPE.PTR) return reply(question, RCODE.none);
  if (name === undefined) return reply(question, RCODE.noName);
  if (!names.has(name) && (!mayTell() || !tell(name, qtype))) return reply(question, RCODE.failed);
  const address = names.addressOf(name);
  if (address === undefined) return reply(question, RCODE.failed);
  return reply(question, RCODE.none, qtype === QTYPE.A ? address : undefined);
}

function listenForNames(): Promise<void> {
  const socket = createSocket({ type: 'udp6' });
  socket.on('message', (packet, { port, address }) => {
    const bytes = answer(packet);
    if (bytes !== undefined) socket.send(bytes, port, address, () => {});
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(53, '::', () => {
      socket.off('error', reject);
      socket.on('error', () => {}); // an answer that could not be sent: the agent asks again
      resolve();
    });
  });
}

function listenForConnections(): Promise<void> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, carry);
  server.maxConnections = MOST_CONNECTIONS;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd: LISTENER_FD }, resolve);
  });
}

const agentNetPid = Number(process.argv[2]);
await Promise.all([buildLink(agentNetPid), listenForNames(), listenForConnections()]);
process.stdout.write(`${JSON.stringify({ agentNetPid })}\n`);
