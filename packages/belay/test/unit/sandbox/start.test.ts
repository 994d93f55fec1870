// Real sandboxes, built by a launcher in a process of its own, once as an ordinary user and once as
// root, with a gateway that only notes and echoes.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { delegatedCgroup } from '../../../src/sandbox/cgroup.ts';
import { janitor } from '../../../src/sandbox/janitor.ts';
import { processStart } from '../../../src/sandbox/process-start.ts';
import { verifies } from '../../verifies.ts';
import {
  createGround,
  type Ground,
  IDENTITIES,
  type Identity,
  NODE,
  stillThere,
  tree,
  until,
} from './fixture.ts';

describe.each(IDENTITIES)('started by $name', (identity: Identity) => {
  const { skip } = identity;
  const ground = () => createGround(identity);
  const limits = { skip, timeoutMs: 60_000 };
  const node = (script: string) => [NODE, '-e', script];
  const own = (g: Ground, name: string, text = '') => writeFileSync(join(g.workdir, name), text);
  const sh = (script: string) => ['sh', '-c', script];

  verifies(
    ['net.odd-port', 'net.noproxy-env'],
    'a name, an address, an odd port and IPv6 reach the gateway with where they wanted to go',
    async () => {
      await using g = await ground();
      const script = `
        const net = require('net');
        const to = [['example.com', 80], ['93.184.216.34', 443], ['192.0.2.9', 61000],
          ['2001:db8::5', 81], ['169.254.169.254', 80], ['192.0.0.1', 15001], ['Example.COM', 5432]];
        Promise.all(to.map(([host, port]) => new Promise((done) => {
          const s = net.connect(port, host, () => s.end('hello'));
          let got = ''; s.on('data', (d) => { got += d; });
          s.on('close', () => done(got)); s.on('error', (e) => done(e.code));
        }))).then((all) => console.log(all.join()));`;
      const { out, status } = await g.run(node(script));
      expect([out, status]).toEqual(['hello,hello,hello,hello,hello,hello,hello\n', 0]);
      const went = g.headers.filter(({ dst }) => dst !== undefined);
      const name = went.find(({ port }) => port === 5432)?.dst;
      expect(name).toMatch(/^198\.1[89]\./);
      expect(went).toHaveLength(7);
      expect(went).toEqual(
        expect.arrayContaining([
          { v: 1, dst: name, port: 80, name: 'example.com' },
          { v: 1, dst: name, port: 5432, name: 'example.com' },
          { v: 1, dst: '93.184.216.34', port: 443 },
          { v: 1, dst: '192.0.2.9', port: 61000 },
          { v: 1, dst: '2001:db8::5', port: 81 },
          { v: 1, dst: '169.254.169.254', port: 80 },
          { v: 1, dst: '192.0.0.1', port: 15001 },
        ]),
      );
      const asked = g.headers.filter(({ dns }) => dns !== undefined);
      expect(asked).toEqual([{ v: 1, dns: 'example.com', qtype: expect.any(Number) }]);
    },
    limits,
  );

  verifies(
    'net.dns',
    'any server gives the fake address, other kinds are empty, other UDP is refused',
    async () => {
      await using g = await ground();
      const script = `
        const dns = require('dns/promises'), dgram = require('dgram');
        const out = [];
        const udp = (family, host) => new Promise((done) => {
          const s = dgram.createSocket(family);
          s.on('error', (e) => { done(e.code); s.close(); });
          s.connect(443, host, () => s.send('x'));
          setTimeout(() => done('silent'), 2000).unref();
        });
        (async () => {
          for (const server of [null, '8.8.8.8', '[2001:4860:4860::8888]']) {
            const r = new dns.Resolver({ timeout: 1500, tries: 1 });
            if (server) r.setServers([server]);
            out.push((await r.resolve4('example.org').catch((e) => [e.code]))[0]);
          }
          const r = new dns.Resolver({ timeout: 1500, tries: 1 });
          for (const kind of ['AAAA', 'TXT', 'MX']) {
            out.push(await r.resolve('example.org', kind).then((a) => a.length, (e) => e.code));
          }
          out.push(await r.reverse(out[0]).catch((e) => e.code));
          out.push(await udp('udp4', '1.1.1.1'), await udp('udp6', '2001:db8::1'));
          console.log(out.join());
        })();`;
      const { out } = await g.run(node(script));
      const [address = '', ...rest] = out.trim().split(',');
      expect(address).toMatch(/^198\.1[89]\./);
      expect(rest).toEqual([
        ...[address, address, 'ENODATA', 'ENODATA', 'ENODATA', 'ENOTFOUND'],
        ...['ECONNREFUSED', 'ECONNREFUSED'],
      ]);
    },
    limits,
  );

  verifies(
    'net.dns',
    'no packet stops the bridge from answering',
    async () => {
      await using g = await ground();
      const script = `
        const dgram = require('dgram'), dns = require('dns/promises'), { randomBytes } = require('crypto');
        const s = dgram.createSocket('udp4'); let n = 0;
        const q = Buffer.from('123401000001000000000000076578616d706c6503636f6d0000010001', 'hex');
        const next = () => {
          if (n++ === 4000) { s.close(); return dns.resolve4('after.example').then((a) => console.log(a.length)); }
          let p = n % 3 === 0 ? randomBytes(n % 70) : Buffer.from(q);
          if (n % 3 === 1) for (let i = 0; i < 4; i++) p[randomBytes(1)[0] % p.length] = randomBytes(1)[0];
          if (n % 3 === 2) p = p.subarray(0, n % (p.length + 1));
          if (n % 7 === 0) p = Buffer.concat([q.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]);
          s.send(p, 53, '192.0.0.1', () => (n % 50 === 0 ? setTimeout(next, 1) : next()));
        };
        next();`;
      const { out, status } = await g.run(node(script));
      expect([out, status]).toEqual(['1\n', 0]);
    },
    limits,
  );

  verifies(
    'net.own-loopback',
    'a server of the agent works on any port of its loopback, and the gateway hears nothing of it',
    async () => {
      await using g = await ground();
      const script = `
        const net = require('net');
        Promise.all([80, 443, 8080, 3128, 15001, 53, 61000].flatMap((port) => ['127.0.0.1', '::1'].map(
          (host) => new Promise((done) => {
            const server = net.createServer((c) => c.end('own'));
            server.on('error', (e) => done(e.code));
            server.listen(port, host, () => net.connect(port, host).on('data', (d) => {
              done(String(d)); server.close();
            }));
          })))).then((all) => console.log(all.join()));`;
      const { out } = await g.run(node(script));
      expect(out).toBe(`${Array(14).fill('own').join()}\n`);
      expect(g.headers).toEqual([]);
    },
    limits,
  );

  verifies(
    'net.own-loopback',
    'megabytes pass the bridge both ways, whole, with each half closed by itself',
    async () => {
      await using g = await ground();
      const script = `
        const net = require('net'), crypto = require('crypto');
        const all = Array.from({ length: 8 }, () => new Promise((done) => {
          const data = crypto.randomBytes(3 << 20), sum = crypto.createHash('sha256');
          const s = net.connect({ port: 9000, host: '203.0.113.7', allowHalfOpen: true });
          let size = 0; s.on('data', (d) => { size += d.length; sum.update(d); });
          s.on('end', () => done(size === data.length &&
            sum.digest('hex') === crypto.hash('sha256', data)));
          s.end(data);
        }));
        Promise.all(all).then((ok) => console.log(ok.every(Boolean)));`;
      expect((await g.run(node(script))).out).toBe('true\n');
    },
    limits,
  );

  verifies(
    ['env.inherit', 'uid0-not-mapped'],
    "inside is uid 1000 without a capability, the caller's variables, files or descriptors",
    async () => {
      await using g = await ground();
      const script = `id -u; id -g; cat /proc/self/uid_map | tr -s ' '; env | cut -d= -f1 | sort | xargs
        ls /proc/self/fd | xargs; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status
        cat ${g.base}/secret; cat ${g.runDir}/owner.json; ls ${g.base}; ls /proc | grep -c '^[0-9]'
        echo x > /etc/x; echo x > /usr/x; echo 1 > /proc/sys/kernel/core_pattern; echo x > /x`;
      const { out, err } = await g.run(sh(script), { spec: { env: { MINE: 'yes' } } });
      const [uid, gid, map, names, files, ...rest] = out.split('\n');
      expect([uid, gid]).toEqual(['1000', '1000']);
      expect(map).toMatch(/^ 1000 \d+ 1$/);
      expect(names?.trim().split(' ')).toEqual([
        ...['CURL_CA_BUNDLE', 'GIT_SSL_CAINFO', 'HOME', 'LANG', 'LOGNAME', 'MINE'],
        ...['NODE_EXTRA_CA_CERTS', 'PATH', 'PIP_CERT', 'PWD', 'REQUESTS_CA_BUNDLE', 'SHELL'],
        ...['SSL_CERT_FILE', 'TERM', 'USER'],
      ]);
      expect(files).toBe('0 1 2 3'); // 3 is the listing's own
      expect(rest.slice(0, 4).map((line) => line.split(/\s+/)[1])).toEqual([
        ...['0000000000000000', '0000000000000000', '1', '2'],
      ]);
      expect(rest.slice(4)).toEqual(['work', expect.stringMatching(/^[3-7]$/), '']);
      expect(err.match(/No such file/g)).toHaveLength(2);
      expect(err.match(/Read-only file system/g)).toHaveLength(4);
    },
    limits,
  );

  verifies(
    'run.status',
    'the status passes through, a signal is 128 + n, and what cannot run is 127 or 126',
    async () => {
      await using g = await ground();
      for (const [command, status] of [
        [['true'], 0],
        [sh('exit 7'), 7],
        [sh('kill -TERM $$'), 143],
        [['no-such-command'], 127],
        [['/etc/passwd'], 126],
      ] as const) {
        const ran = await g.run(command);
        expect([command, ran.status, ran.end]).toEqual([
          ...[command, status, { status, ran: true, reason: 'exited' }],
        ]);
      }
    },
    limits,
  );

  verifies(
    'fsw.git-hooks',
    'protected names cannot be written, made, moved or removed, and placeholders go at the end',
    async () => {
      await using g = await ground();
      for (const folder of ['.git/hooks', '.git/info', '.vscode']) {
        mkdirSync(join(g.workdir, folder), { recursive: true });
      }
      for (const name of ['.git/hooks/pre-commit', '.git/config', '.npmrc']) own(g, name, 'old');
      own(g, '.env', 'TOKEN=secret');
      g.chown();
      const before = readdirSync(g.workdir, { recursive: true }).sort();
      const attempts = [
        'echo x > .git/hooks/pre-commit',
        'echo x > .git/hooks/post-checkout',
        'rm -f .git/hooks/pre-commit',
        'rm -rf .git/hooks',
        'echo x >> .git/config',
        'mv .git/config .git/c',
        'mv .git away',
        'mv .git/info .git/i',
        'echo .. > .git/commondir',
        'rm -f .git/commondir',
        'echo x > .git/info/attributes',
        'ln -sf /tmp/evil .git/config',
        'ln .git/config linked',
        'echo x > .mcp.json',
        'rm -f .mcp.json',
        'mkdir .claude/hooks',
        'echo x > .claude/settings.json',
        'mv .claude c',
        'rmdir .claude',
        'echo x > .envrc',
        'echo x > .npmrc',
        'mv .npmrc n',
        'echo x > .vscode/tasks.json',
        'mkdir -p .github/workflows',
        'echo x > .husky/pre-commit',
        'echo x > .env',
        'mv .env e',
      ];
      // The control: everything else in the same folders can be written.
      const allowed = ['echo x > ok', 'echo x > .git/HEAD', 'mkdir sub', 'mv ok ok2'];
      allowed.push('! grep -q secret .env', 'grep -q TOKEN= .env');
      const list = [...attempts, ...allowed].map((line) => `(${line}) 2>/dev/null; echo $?`);
      const { out } = await g.run(sh(list.join('\n')));
      const codes = out.trim().split('\n').map(Number);
      const refused = attempts.filter((_, i) => codes[i] !== 0);
      expect(refused).toEqual(attempts);
      expect(codes.slice(attempts.length)).toEqual(allowed.map(() => 0));
      const after = readdirSync(g.workdir, { recursive: true }).sort();
      expect(after).toEqual([...before, '.git/HEAD', 'ok2', 'sub'].sort());
      expect(readFileSync(join(g.workdir, '.env'), 'utf8')).toBe('TOKEN=secret');
      expect(statSync(join(g.workdir, 'ok2')).uid).toBe(identity.owner);
    },
    limits,
  );

  verifies(
    'fsw.set-uid',
    'no set-uid or set-gid file can be made',
    async () => {
      await using g = await ground();
      const script = `
        const fs = require('fs'); const out = [];
        const attempt = (f) => { try { f(); out.push('made'); } catch (e) { out.push(e.code); } };
        fs.writeFileSync('f', '');
        for (const mode of [0o4755, 0o2755]) {
          attempt(() => fs.chmodSync('f', mode));
          attempt(() => fs.fchmodSync(fs.openSync('f'), mode));
          attempt(() => fs.openSync('g' + mode, 'wx', mode));
        }
        attempt(() => fs.chmodSync('f', 0o755));
        console.log(out.join());`;
      const { out } = await g.run(node(script));
      expect(out).toBe(`${Array(6).fill('EPERM').join()},made\n`);
      expect(readdirSync(g.workdir)).toEqual(['f']);
      expect(statSync(join(g.workdir, 'f')).mode & 0o7777).toBe(0o755);
    },
    limits,
  );

  verifies(
    'run.bad-workspace',
    'a workspace behind a link is the folder that it means; what cannot be one is refused',
    async () => {
      await using g = await ground();
      symlinkSync(g.workdir, join(g.base, 'link'));
      const linked = await g.run(['pwd'], { spec: { workdir: join(g.base, 'link') } });
      expect(linked.out).toBe(`${g.workdir}\n`);
      for (const workdir of [g.base, '/', '/etc', '/tmp', join(g.base, 'missing')]) {
        const { end, status } = await g.run(['true'], { spec: { workdir } });
        expect([workdir, end.code, status]).toEqual([workdir, 'ERR_USAGE', 69]);
      }
      symlinkSync('/etc', join(g.workdir, '.claude'));
      const { end } = await g.run(['true']);
      expect(end).toMatchObject({
        code: 'ERR_SANDBOX',
        hint: expect.stringContaining('--workdir'),
      });
      expect(readdirSync(g.runDir)).toEqual(['gw.sock']);
      expect(readdirSync(g.workdir)).toEqual(['.claude']);
    },
    limits,
  );

  verifies(
    'net.bridge-dead-closed',
    'with the bridge dead nothing connects, and the run ends',
    async () => {
      await using g = await ground();
      const script = `
        const net = require('net'), fs = require('fs');
        const go = (to) => new Promise((done) => {
          const s = net.connect({ ...to, timeout: 800 });
          s.on('connect', () => done('connected')); s.on('error', (e) => done(e.code));
          s.on('timeout', () => done('timeout'));
        });
        (async () => {
          fs.writeFileSync('first', await go({ host: '93.184.216.34', port: 80 }));
          while (!fs.existsSync('now')) await new Promise((r) => setTimeout(r, 5));
          const all = await Promise.all([go({ host: '93.184.216.34', port: 80 }),
            go({ host: '2001:db8::1', port: 443 }), go({ host: 'example.com', port: 80 })]);
          fs.writeFileSync('second.new', all.join()); fs.renameSync('second.new', 'second');
          setInterval(() => {}, 1000);
        })();`;
      const run = g.launch(node(script));
      const { holderPid } = await run.next();
      const first = join(g.workdir, 'first');
      await until(() => existsSync(first) && readFileSync(first, 'utf8') !== '');
      expect(readFileSync(first, 'utf8')).toBe('connected');
      const processes = tree(run.process.pid as number);
      // The launcher is held, so that it cannot end the agent before the agent has tried.
      const launcher = processes.find(
        ({ name }) => name.startsWith('node') || name === 'MainThread',
      );
      process.kill(launcher?.pid as number, 'SIGSTOP');
      process.kill(holderPid as number, 'SIGKILL');
      expect(await until(() => processStart(holderPid as number) === undefined)).toBe(true);
      own(g, 'now');
      const second = join(g.workdir, 'second');
      expect(await until(() => existsSync(second))).toBe(true);
      const tried = readFileSync(second, 'utf8').split(',');
      expect(tried).toHaveLength(3);
      expect(tried).not.toContain('connected');
      process.kill(launcher?.pid as number, 'SIGCONT');
      expect(await run.next()).toMatchObject({ reason: 'bridge', ran: true, status: 69 });
      await run.done;
      expect(stillThere(processes)).toEqual([]);
    },
    limits,
  );

  verifies(
    'run.ctrl-c',
    'SIGKILL to the launcher leaves no process, and the janitor removes the rest',
    async () => {
      await using g = await ground();
      // A daemon that left its parent and its session, beside the command itself.
      const run = g.launch(sh('setsid sh -c "sleep 100 & sleep 100" & touch up; sleep 100'));
      const told = await run.next();
      expect(await until(() => existsSync(join(g.workdir, 'up')))).toBe(true);
      const processes = [
        ...tree(run.process.pid as number),
        ...tree(told.holderPid as number),
        ...tree(told.childPid as number),
      ];
      expect(processes.filter(({ name }) => name === 'sleep').length).toBeGreaterThanOrEqual(2);
      const launcher = processes[0]?.pid as number;
      // Stopped, the bridge cannot see its lifeline end: the death signal takes it all the same.
      process.kill(told.holderPid as number, 'SIGSTOP');
      process.kill(launcher, 'SIGKILL');
      await until(() => stillThere(processes).length === 0);
      expect(stillThere(processes)).toEqual([]);
      expect(existsSync(join(g.workdir, '.envrc'))).toBe(true);
      // Another user's traces are not obeyed, whoever looks.
      if (identity.owner !== (process.getuid?.() ?? 0)) {
        expect(janitor(g.runsDir, Date.now)).toEqual([]);
      }
      const [program = '', ...args] = [
        ...identity.prefix,
        ...[process.execPath, join(import.meta.dirname, 'sweep.ts'), g.runsDir],
      ];
      const swept = spawnSync(program, args, { encoding: 'utf8' });
      expect(JSON.parse(swept.stdout)).toEqual(['r-bcdfghjk']);
      expect(readdirSync(g.runsDir)).toEqual([]);
      expect(readdirSync(g.workdir)).toEqual(['up']);
    },
    limits,
  );

  verifies(
    'run.ctrl-c',
    'the command does not run before the gate is opened, whoever dies first',
    async () => {
      await using g = await ground();
      const run = g.launch(['touch', 'ran'], { hold: true });
      const { childPid } = await run.next();
      const processes = [...tree(run.process.pid as number), ...tree(childPid as number)];
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(existsSync(join(g.workdir, 'ran'))).toBe(false);
      process.kill(run.process.pid as number, 'SIGKILL');
      expect(await until(() => stillThere(processes).length === 0)).toBe(true);
      expect(existsSync(join(g.workdir, 'ran'))).toBe(false);
    },
    limits,
  );

  verifies(
    'run.kill',
    'kill ends everything inside, a daemon included, and leaves nothing',
    async () => {
      await using g = await ground();
      const run = g.launch(sh('setsid sleep 100 & touch up; sleep 100'));
      const { holderPid, childPid } = await run.next();
      expect(await until(() => existsSync(join(g.workdir, 'up')))).toBe(true);
      const processes = [...tree(holderPid as number), ...tree(childPid as number)];
      const launcher = tree(run.process.pid as number)[0]?.pid as number;
      process.kill(launcher, 'SIGTERM');
      expect(await run.next()).toEqual({ status: 137, ran: true, reason: 'killed' });
      expect(stillThere(processes)).toEqual([]);
      await run.done;
      expect(readdirSync(g.workdir)).toEqual(['up']);
      expect(readdirSync(g.runDir)).toEqual(['gw.sock']);
    },
    limits,
  );

  verifies(
    'fsw.git-hooks',
    'a second run in the same workspace keeps its masks when the first ends',
    async () => {
      await using g = await ground();
      const first = g.launch(sh('while ! [ -e stop ]; do sleep 0.02; done'));
      await first.next();
      const runDir = join(g.runsDir, 'r-zzzzzzzz');
      mkdirSync(runDir);
      g.chown();
      const wait = 'touch stop; while ! [ -e next ]; do sleep 0.02; done';
      const second = g.launch(sh(`${wait}; echo x > .envrc || echo refused`), { spec: { runDir } });
      await second.next();
      await first.next();
      await first.done;
      own(g, 'next');
      await second.next();
      expect((await second.done).out).toBe('refused\n');
      expect(readdirSync(g.workdir).sort()).toEqual(['next', 'stop']);
    },
    limits,
  );

  verifies(
    'probe.refuses',
    'a sandbox in which one escape works is refused, and its command never runs',
    async () => {
      await using g = await ground();
      // A socket of the host that can be reached: it lies in the workspace.
      const reachable = join(g.workdir, 'host.sock');
      const server = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => server.listen(reachable, resolve));
      chmodSync(reachable, 0o666);
      try {
        const probe = (sockets: readonly string[]) => ({
          spec: { probe: { loopbackPort: 9, sockets } },
        });
        const refused = g.launch(sh('echo ran > ran.txt'), probe([reachable]));
        expect(await refused.next()).toMatchObject({
          code: 'ERR_SANDBOX',
          message: expect.stringMatching(/does not hold on this host: `socket` .*host\.sock/),
        });
        expect((await refused.done).status).toBe(69);
        expect(existsSync(join(g.workdir, 'ran.txt'))).toBe(false);
        expect(readdirSync(g.runDir)).toEqual(['gw.sock']);
        const holds = g.launch(sh('true'), probe([join(g.base, 'no.sock')]));
        expect(await holds.next()).toHaveProperty('holderPid');
        expect((await holds.done).status).toBe(0);
      } finally {
        server.close();
      }
    },
    limits,
  );

  verifies(
    'run.kill',
    'with a cgroup the agent is in it, frozen or not it is killed through it, and it is empty after',
    async () => {
      await using g = await ground();
      const cgroup = join(delegatedCgroup() ?? '', 'belay-r-bcdfghjk');
      mkdirSync(cgroup);
      try {
        const run = g.launch(sh('setsid sleep 100 & touch up; sleep 100'), {
          spec: { cgroups: { control: cgroup, join: [cgroup], weak: [] } },
        });
        const { childPid, holderPid } = await run.next();
        expect(await until(() => existsSync(join(g.workdir, 'up')))).toBe(true);
        const inside = readFileSync(join(cgroup, 'cgroup.procs'), 'utf8').trim().split('\n');
        expect(inside).toContain(String(childPid));
        expect(inside).not.toContain(String(holderPid));
        expect(inside.length).toBeGreaterThanOrEqual(4);
        writeFileSync(join(cgroup, 'cgroup.freeze'), '1');
        process.kill(tree(run.process.pid as number)[0]?.pid as number, 'SIGTERM');
        expect(await run.next()).toEqual({ status: 137, ran: true, reason: 'killed' });
        expect(readFileSync(join(cgroup, 'cgroup.events'), 'utf8')).toContain('populated 0');
      } finally {
        writeFileSync(join(cgroup, 'cgroup.kill'), '1');
        await until(() =>
          readFileSync(join(cgroup, 'cgroup.events'), 'utf8').includes('populated 0'),
        );
        rmdirSync(cgroup);
      }
    },
    { ...limits, skip: skip || (identity.owner !== 0 && 'an ordinary user has no cgroup here') },
  );

  verifies(
    'host.no-userns',
    'without user namespaces there is one clear reason',
    async () => {
      await using g = await ground();
      const limit = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"';
      const { end, status } = await g.run(['true'], {
        prefix: ['unshare', '--user', '--map-current-user', '--keep-caps', 'sh', '-c', limit, 'sh'],
      });
      expect([end.code, status]).toEqual(['ERR_HOST', 69]);
      expect(end.message).toContain('user.max_user_namespaces is 0');
      expect(readdirSync(g.runDir)).toEqual(['gw.sock']);
    },
    { ...limits, skip: skip || (identity.owner === 0 && 'root in a namespace is no longer root') },
  );
});
