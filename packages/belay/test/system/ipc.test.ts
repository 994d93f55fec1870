// What belongs to the user's other programs: their memory, descriptors, keys, shared memory, sockets
// and files. A victim of the test's own, of the agent's uid, has one of each, with a token in it; the
// controls find the tokens from outside as that same uid. One run makes every attempt.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import {
  type Attempt,
  type Attempted,
  agentIds,
  keyed,
  NODE,
  openPlace,
  type Place,
  type Started,
} from './place.ts';
import { scratch } from './upstreams.ts';

const token = (): string => randomBytes(12).toString('hex');
const TOKEN = { memory: token(), file: token(), segment: token(), shm: token(), key: token() };
const ARGUMENT = `${token()}.example`;
const HOME_TOKEN = token();
const KEY_NAME = `belay-test-${token()}`;
const SHM = `/dev/shm/belay-test-${token()}`;
const TOKEN_BYTES = TOKEN.memory.length;

const x64 = process.arch === 'x64';
const NR = x64
  ? { prctl: 157, addKey: 248, keyctl: 250 }
  : { prctl: 167, addKey: 217, keyctl: 219 };
// Says where it has what, and takes it away when its input ends. Tokens come on stdin, so that they
// are in no argument. Where Yama is, PR_SET_PTRACER lets any process of its user read it.
const VICTIM = `$| = 1; my ($memory, $file, $segment, $key, $name) = split ' ', scalar <STDIN>;
syscall(${NR.prctl}, 0x59616d61, -1, 0, 0, 0);
open my $held, '+>', undef or die $!; syswrite $held, $file;
my $id = shmget(0, 4096, 0600 | 01000) // die $!; shmwrite($id, $segment, 0, length $segment);
my ($type, $what) = ("user\\0", "$name\\0");
my $kept = syscall(${NR.addKey}, $type, $what, $key, length $key, -4);
$kept > 0 or die $!; syscall(${NR.keyctl}, 5, $kept, 0x3f3f0000);
print join(' ', unpack('Q', pack 'p', $memory), fileno $held, $id), "\\n";
<STDIN>; shmctl($id, 0, 0); syscall(${NR.keyctl}, 9, $kept, -4);`;

// Node passes on no descriptor that it was started with up to the first gap after 15, and all beyond.
const HIGH = 40;
// Every descriptor, the one that lists them aside, and what this one reads.
const DESCRIPTORS = `opendir my $all, '/proc/self/fd';
print join(' ', sort { $a <=> $b } grep { /\\d/ && $_ != fileno $all } readdir $all), "\\n";
my $opened; print open($opened, '<&=', ${HIGH}) ? scalar <$opened> : 'none', "\\n";`;

const CREDENTIALS = [
  ...['.ssh/id_ed25519', '.aws/credentials', '.netrc', '.npmrc', '.git-credentials'],
  ...['.config/gh/hosts.yml', '.claude/.credentials.json', '.codex/auth.json', '.kube/config'],
  ...['.docker/config.json', '.gnupg/secring.gpg', '.bash_history', 'notes.txt'],
];

const folder = scratch();
const servers: Server[] = [];
let place: Place;
let victim: Victim;
let held: Started;
let inside: Readonly<Record<string, Attempted>>;
let outside: Readonly<Record<string, Attempted>>;
let sockets: Readonly<Record<'agent' | 'homeAgent' | 'abstract', string>>;

beforeAll(async () => {
  place = await openPlace();
  chmodSync(folder.path, 0o755);
  victim = await startVictim();
  writeFileSync(SHM, TOKEN.shm);
  chmodSync(SHM, 0o644);
  const home = place.session.env.HOME as string;
  layCredentials(home);
  sockets = {
    agent: join(folder.path, 'agent.1'),
    homeAgent: join(home, '.ssh/agent.sock'),
    abstract: `\0belay-test-${token()}`,
  };
  for (const path of Object.values(sockets)) await listen(path);
  const env = { SSH_AUTH_SOCK: sockets.agent };
  const { pid, address, fd, segment } = victim;

  const both: Record<string, Attempt> = {
    env: ['env'],
    arguments: ['environScan', ARGUMENT],
    bootLine: ['read', '/proc/cmdline'],
    memory: ['remoteMemory', pid, address, TOKEN_BYTES],
    ownMemory: ['remoteMemory', 0, 0, 4],
    descriptor: ['remoteDescriptor', pid, fd],
    ownDescriptor: ['remoteDescriptor', 0, 0],
    key: ['key', KEY_NAME],
    keys: ['shell', 'cat /proc/keys'],
    segment: ['segment', segment, TOKEN_BYTES],
    segments: ['shell', 'cat /proc/sysvipc/shm'],
    shm: ['read', SHM],
    agent: ['unix', sockets.agent],
    homeAgent: ['unix', sockets.homeAgent],
    abstract: ['unix', sockets.abstract],
    ...Object.fromEntries(CREDENTIALS.map((name) => [`~/${name}`, ['read', join(home, name)]])),
  };
  const only: Record<string, Attempt> = {
    first: ['shell', 'tr "\\0" "\\n" < /proc/1/cmdline; cat /proc/1/environ; cat /proc/1/status'],
    // In parts, for the whole stands in the list of attempts.
    homeScan: ['fileScan', [HOME_TOKEN.slice(0, 9), HOME_TOKEN.slice(9)]],
    ownShm: ['shell', `echo mine > ${SHM}-own && cat ${SHM}-own; ls /dev/shm`],
  };
  const all = { ...both, ...only };
  const flags = ['--allow', ARGUMENT];
  inside = keyed(all, (await place.attempt(flags, Object.values(all), { env })).results);
  // Open while the controls look at the launcher from outside.
  held = place.start(flags, ['sleep', '60'], { env });
  await place.openRun();
  outside = keyed(both, await place.control(Object.values(both), { env }));
  held.child.kill('SIGTERM');
  await held.ended;
}, 120_000);

afterAll(async () => {
  await victim?.end();
  for (const server of servers) server.close();
  for (const path of [SHM, `${SHM}-own`]) rmSync(path, { force: true });
  await place?.[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
}, 60_000);

interface Victim {
  readonly pid: number;
  readonly address: number;
  readonly fd: number;
  readonly segment: number;
  end(): Promise<void>;
}

async function startVictim(): Promise<Victim> {
  const child: ChildProcess = spawn('perl', ['-e', VICTIM], {
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(process.getuid?.() === 0 ? agentIds() : {}),
  });
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const { memory, file, segment, key } = TOKEN;
  child.stdin?.write(`${memory} ${file} ${segment} ${key} ${KEY_NAME}\n`);
  const said = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (bytes: Buffer) => resolve(bytes.toString()));
    child.once('close', () => reject(new Error('the victim ended')));
  });
  const [address = 0, fd = 0, id = 0] = said.trim().split(' ').map(Number);
  const end = () => {
    child.stdin?.end();
    return closed;
  };
  return { pid: child.pid as number, address, fd, segment: id, end };
}

async function listen(path: string): Promise<void> {
  const server = createServer((socket) => socket.on('error', () => {}).end());
  servers.push(server);
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
  if (!path.startsWith('\0')) chmodSync(path, 0o666);
}

/** As open as a user could leave them: what closes them is the sandbox. */
function layCredentials(home: string): void {
  for (const name of CREDENTIALS) {
    const path = join(home, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${HOME_TOKEN}\n`);
    for (const shown of [path, dirname(path)]) chmodSync(shown, 0o755);
  }
}

verifies(
  'proc.pid1-cmdline-clean',
  'the first process inside shows no path, token or argument of the sandbox, and is as bounded',
  () => {
    expect(outside.arguments?.value).toContain(`${held.child.pid}/cmdline`);
    expect(inside.arguments?.value).toEqual([]);
    const shown = inside.first?.value.out as string;
    expect(shown).toMatch(/^bwrap\n/);
    for (const hidden of [place.session.home, folder.path, ARGUMENT, '--ro-bind', '--seccomp']) {
      expect(shown).not.toContain(hidden);
    }
    // Its memory is the agent's to write: it must not be able to do more than the agent.
    expect(shown).toMatch(/^Seccomp:\s+2$/m);
    expect(shown).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(shown).toMatch(/^CapBnd:\s+0+$/m);
  },
);

verifies('proc.cmdline-masked', "the host's kernel command line is not readable", () => {
  expect(outside.bootLine?.value).not.toBe('');
  expect(inside.bootLine?.error).toBe('EACCES');
});

verifies('ptrace.process-vm-readv', 'no memory is readable through process_vm_readv', () => {
  expect(outside.memory?.value).toBe(TOKEN.memory);
  expect(inside.memory?.value).toBe('EPERM');
  // Not even one's own: the call is refused whoever is meant.
  expect(outside.ownMemory?.value).toBe('mine');
  expect(inside.ownMemory?.value).toBe('EPERM');
});

verifies('ptrace.pidfd-getfd', 'no descriptor of another process can be taken', () => {
  expect(outside.descriptor?.value).toBe(TOKEN.file);
  expect(inside.descriptor?.value).toMatch(/^(?:EPERM|ESRCH)$/);
  expect(outside.ownDescriptor?.value).toBe('perl\n');
  expect(inside.ownDescriptor?.value).toBe('EPERM');
});

verifies('key.user-keyring', "no key of the user's keyring is reachable or named", () => {
  expect(outside.key?.value).toBe(TOKEN.key);
  expect(outside.keys?.value.out).toContain(KEY_NAME);
  expect(inside.key?.value).toBe('EPERM');
  expect(inside.keys?.value).toMatchObject({ status: 1, out: '' });
});

verifies('ipc.sysv-shm', 'no System V shared memory of the host is reachable', () => {
  expect(outside.segment?.value).toBe(TOKEN.segment);
  expect(outside.segments?.value.out).toMatch(new RegExp(`\\s${victim.segment}\\s`));
  expect(inside.segment?.value).toBe('EINVAL');
  expect(inside.segments?.value.out.split('\n')).toHaveLength(1);
});

verifies('ipc.posix-shm', 'no POSIX shared memory of the host is reachable, and own works', () => {
  expect(outside.shm?.value).toBe(TOKEN.shm);
  expect(inside.shm?.error).toBe('ENOENT');
  expect(inside.ownShm?.value).toMatchObject({ status: 0, out: expect.stringMatching(/^mine\n/) });
  expect(inside.ownShm?.value.out.split('\n')).toHaveLength(2);
});

verifies(
  'fd.inherited',
  'no descriptor of the launcher reaches the agent but its three',
  async () => {
    const secret = folder.put('open.txt', TOKEN.file);
    const program = place.put('descriptors.pl', DESCRIPTORS);
    chmodSync(secret, 0o644);
    const withHigh = ['bash', '-c', `exec "$@" ${HIGH}< '${secret}'`, 'high'];
    const agent = ['perl', program];
    const control = await place.outside([...withHigh, ...agent]);
    expect(control.stdout).toMatch(new RegExp(`^0 1 2 .*\\b${HIGH}\\b.*\n${TOKEN.file}\n$`));
    const { launcher } = place.session;
    const run = [NODE, launcher, 'run', '--', ...agent];
    const contained = await place.session.exec([...withHigh, ...run]);
    expect(contained.stdout, contained.stderr).toBe('0 1 2\nnone\n');
  },
  { timeoutMs: 30_000 },
);

verifies(
  'unix.ssh-agent',
  "no ssh agent of the user is reachable, nor is its socket's name",
  () => {
    expect(outside.env?.value).toHaveProperty('SSH_AUTH_SOCK', sockets.agent);
    expect(outside.agent?.value).toBe('connected');
    expect(outside.homeAgent?.value).toBe('connected');
    expect(inside.env?.value).not.toHaveProperty('SSH_AUTH_SOCK');
    expect(inside.agent?.value).toMatch(/^(?:ENOENT|EACCES)$/);
    expect(inside.homeAgent?.value).toMatch(/^(?:ENOENT|EACCES)$/);
  },
);

verifies('unix.abstract', 'no abstract unix socket of the host is reachable', () => {
  expect(outside.abstract?.value).toBe('connected');
  expect(inside.abstract?.value).toBe('ECONNREFUSED');
});

verifies('fsr.home-creds', 'no credential in the home of the user is readable', () => {
  for (const name of CREDENTIALS) {
    expect(outside[`~/${name}`]?.value, name).toBe(`${HOME_TOKEN}\n`);
    expect(inside[`~/${name}`]?.error, name).toMatch(/^(?:ENOENT|EACCES)$/);
  }
  expect(inside.homeScan?.value, 'by whatever path').toEqual([]);
});
