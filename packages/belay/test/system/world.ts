// A host and a world of the test's own. The host is a network and a mount namespace whose only
// resolver is a real name server of the test's; the world is a second network namespace at the other
// end of a link, with that name server and with HTTP at public and at private addresses. Servers
// keep journals, and the host's kernel counts the packets that leave for each address.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually, NODE } from './place.ts';
import { scratch } from './upstreams.ts';

type Listen = readonly [address: string, port: number];

export interface WorldParts {
  /** On the link: the host's own, and what is at the other end. */
  readonly own: readonly string[];
  readonly far: readonly string[];
  readonly resolver: string;
  readonly ownListens: readonly Listen[];
  readonly farListens: readonly Listen[];
  /** The answers of a name, one after the other; the last one stays. */
  readonly names: Readonly<Record<string, readonly (readonly string[])[]>>;
  /** Packets to these are counted. */
  readonly watched: readonly string[];
}

/** One line of a journal. */
export interface Seen {
  readonly asked?: string;
  readonly type?: number;
  readonly answers?: readonly string[] | null;
  readonly connected?: string;
  readonly reached?: string;
  readonly port?: number;
  readonly host?: string;
}

export interface World extends AsyncDisposable {
  /** The way of a command into the host, as the present user. */
  within(cwd: string): readonly string[];
  seen(): readonly Seen[];
  /** How many packets of TCP the host has sent to each watched address. */
  packets(): Promise<Readonly<Record<string, number>>>;
}

const execute = promisify(execFile);
const PROGRAM = join(import.meta.dirname, 'inside/world.mjs');
const UID = process.getuid?.() ?? 0;

/** Arguments: the folder of files for /etc, the host's addresses, and a program with its arguments. */
const HOST = `
ip link set lo up
ip link add near type veth peer name far
for address in $1; do ip addr add "$address" dev near nodad >&2; done
ip link set near up
ip route add default dev near
ip -6 route add default dev near
for file in resolv.conf nsswitch.conf hosts; do mount --bind "$0/$file" "/etc/$file"; done
shift
exec "$@"`;

/** Arguments: the pid of the host, the addresses of the world, and a program with its arguments. */
const FAR = `
nsenter --net=/proc/$0/ns/net ip link set far netns $$
ip link set lo up
for address in $1; do ip addr add "$address" dev far nodad >&2; done
ip link set far up
ip route add default dev far
ip -6 route add default dev far
shift
exec "$@"`;

export async function openWorld(parts: WorldParts): Promise<World> {
  const etc = scratch();
  // The agent's user and the daemon's resolve by them too.
  chmodSync(etc.path, 0o755);
  // A question that is asked again would have the next answer.
  etc.put('resolv.conf', `nameserver ${parts.resolver}\noptions timeout:5 attempts:1\n`);
  etc.put('nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n');
  etc.put('hosts', '127.0.0.1 localhost\n');
  const children: ChildProcess[] = [];
  const seen: Seen[] = [];

  /** Starts a program that says so when it is ready, and afterwards what it sees. */
  async function begin(argv: readonly string[]): Promise<number> {
    const child = spawn(argv[0] as string, argv.slice(1), { stdio: 'pipe' });
    children.push(child);
    let rest = '';
    let complaint = '';
    let ready = false;
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk));
    child.stdout.on('data', (chunk: Buffer) => {
      const said = `${rest}${chunk}`.split('\n');
      rest = said.pop() ?? '';
      for (const line of said) {
        const what = JSON.parse(line) as Seen & { readonly ready?: true };
        if (what.ready === true) ready = true;
        else seen.push(what);
      }
    });
    const ended = once(child, 'close').then(() => {
      throw new Error(`a part of the world could not be made: ${complaint}`);
    });
    ended.catch(() => {});
    await Promise.race([ended, eventually('a part of the world', () => ready || undefined)]);
    return child.pid as number;
  }

  async function end(): Promise<void> {
    for (const child of children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    }
    etc[Symbol.dispose]();
  }

  const program = (config: object): readonly string[] => [NODE, PROGRAM, JSON.stringify(config)];
  const plain = UID === 0;
  try {
    const host = await begin([
      ...['unshare', ...(plain ? [] : ['--user', '--map-root-user']), '--net', '--mount'],
      ...['sh', '-ec', HOST, etc.path, parts.own.join(' ')],
      ...program({ listen: parts.ownListens }),
    ]);
    const user = plain ? [] : ['--user', '--preserve-credentials'];
    const enter = ['nsenter', '-t', `${host}`, ...user, '--net', '--mount', '--'];
    await begin([
      ...enter,
      ...['unshare', '--net', 'sh', '-ec', FAR, `${host}`, parts.far.join(' ')],
      ...program({ listen: parts.farListens, dns: parts.resolver, names: parts.names }),
    ]);
    // Below the root of these namespaces an ordinary uid is itself again, with nothing but that.
    const self = ['--map-user', `${UID}`, '--map-group', `${process.getgid?.()}`];
    const inner = plain
      ? undefined
      : await begin([...enter, 'unshare', '--user', ...self, ...program({ listen: [] })]);
    const become = inner === undefined ? [] : ['nsenter', '-t', `${inner}`, ...user, '--'];
    const count = (address: string) =>
      `${address.includes(':') ? 'ip6' : 'ip'} daddr ${address} meta l4proto tcp counter`;
    const rules = parts.watched.map((address) => `add rule inet watch out ${count(address)}`);
    const chain = 'add chain inet watch out { type filter hook output priority 0; }';
    const nft = [...enter, 'nft', '-j'];
    await run(nft, [['add table inet watch', chain, ...rules].join('\n')]);
    return {
      within: (cwd) => [...enter, ...become, 'env', '-C', cwd],
      seen: () => seen,
      async packets() {
        const { nftables } = JSON.parse(await run(nft, ['list', 'chain', 'inet', 'watch', 'out']));
        const counts = (nftables as readonly { rule?: { expr: readonly Expression[] } }[])
          .flatMap(({ rule }) => rule?.expr ?? [])
          .flatMap(({ counter }) => (counter === undefined ? [] : [counter.packets]));
        return Object.fromEntries(
          parts.watched.map((address, i) => [address, counts[i] as number]),
        );
      },
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

interface Expression {
  readonly counter?: { readonly packets: number };
}

async function run(command: readonly string[], args: readonly string[]): Promise<string> {
  const [file = '', ...first] = command;
  const { stdout } = await execute(file, [...first, ...args], { timeout: 10_000 });
  return stdout;
}
