// What is wrong with the host or with what the user wrote: one clear line, a hint, the right exit
// code, and nothing lost.

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { entriesOnDisk } from './ledger-files.ts';
import { eventually, lines, NODE, openPlace } from './place.ts';
import { startUpstream } from './upstreams.ts';

const ONE_ERROR = /^(?:(?!belay: error:).*\n)*belay: error: .+\n(?:belay: hint: .+\n)?$/;

verifies(
  'config.errors',
  'a broken or unknown key ends `belay run` with 2, the place and a hint, before anything started',
  async () => {
    await using place = await openPlace();
    const broken = {
      '{ "version": 1, "agents": }': /belay\.jsonc:1:27: a value is expected/,
      '{ "version": 1, "agnets": {} }': /belay\.jsonc:1:17: .*`agnets`\nbelay: hint: .*`agents`/,
      '{ "version": 2 }': /belay\.jsonc:1:14: .*newer.*\nbelay: hint: update/,
      '{ "version": 1, "agents": { "a": { "environment": "nowhere" } } }':
        /belay\.jsonc:1:51: .*`nowhere`\nbelay: hint: declare/,
    };
    for (const [text, words] of Object.entries(broken)) {
      place.put('belay.jsonc', text);
      const run = await place.run([], ['true']);
      expect(run.status, text).toBe(2);
      expect(run.stderr, text).toMatch(ONE_ERROR);
      expect(run.stderr, text).toMatch(words);
    }
    const { stdout } = await place.session.belay(['status']);
    expect(stdout).toContain('not running');
  },
  { timeoutMs: 30_000 },
);

verifies(
  'cli.inert',
  'what an agent named with control and bidi characters is printed without them, and is read back whole',
  async () => {
    await using place = await openPlace();
    const named = 'a\u009b31m\u202eb\u2066\u200f';
    const run = await place.run([], ['sh', '-c', 'true', named]);
    const id = run.summary?.run ?? '';
    const printed = [run.stderr];
    const asked = [
      ['log', 'export'],
      ['log', '--json'],
      ['tail', '--no-follow', '--json', id],
      ['tail', '--no-follow', id],
      ['show', '--json', id],
      ['show', id],
    ];
    for (const args of asked) {
      const { status, stdout } = await place.session.belay(args);
      expect(status, args.join(' ')).toBe(0);
      printed.push(stdout);
    }
    for (const text of printed) expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    const opened = (await place.entries(id)).find(({ type }) => type === 'run.open');
    expect(opened).toMatchObject({ command: expect.arrayContaining([named]) });
  },
  { timeoutMs: 30_000 },
);

verifies(
  'config.secret-unreadable',
  'a secret that cannot be read ends `belay run` with 2 and one line that names the reference alone',
  async () => {
    const value = 'a value that is nowhere\tshown';
    const from = (reference: string) => ({
      from: reference,
      environment: 'local',
      host: 'api.example',
      methods: ['GET'],
      paths: ['/**'],
      header: 'authorization',
    });
    await using place = await openPlace();
    const cases = {
      'env:NOT_SET': /NOT_SET.* is not set/,
      'file:./missing.txt': /missing\.txt.*does not exist/,
      'env:WITH_TAB': /cannot hold/,
      'file:.': /not a regular file/,
    };
    for (const [reference, words] of Object.entries(cases)) {
      place.configure({ credentials: { api: from(reference) } });
      const run = await place.run([], ['true'], { env: { WITH_TAB: value } });
      expect(run.status, reference).toBe(2);
      expect(run.stderr, reference).toMatch(ONE_ERROR);
      expect(run.stderr, reference).toMatch(words);
      expect(run.stderr).not.toContain('nowhere');
    }
  },
  { timeoutMs: 30_000 },
);

verifies(
  'daemon.port-in-use',
  'a proxy port that is taken is one clear line and exit 69, and a free one is used',
  async () => {
    await using place = await openPlace();
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as { port: number };
    const up = ['up', '--proxy-port', String(port)];
    const refused = await place.session.belay(up);
    expect(refused.status).toBe(69);
    expect(refused.stderr).toMatch(ONE_ERROR);
    expect(refused.stderr).toContain(`127.0.0.1:${port}`);
    await new Promise((resolve) => taken.close(resolve));

    const started = place.session.start(up);
    await eventually('the proxy', async () => {
      const asked = await place.outside([
        'curl',
        '-s',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        '-x',
        `http://127.0.0.1:${port}`,
        'http://api.example/',
      ]);
      return asked.stdout === '407' || undefined;
    });
    started.kill('SIGTERM');
    const wrong = await place.session.belay(['up', '--proxy-port', '70000']);
    expect(wrong.status).toBe(2);
  },
  { timeoutMs: 30_000 },
);

verifies(
  'log.full-disk',
  'on a full disk calls are denied, every command says why, nothing is lost, and room heals it',
  async () => {
    await using upstream = await startUpstream(['api.example']);
    await using place = await openPlace({ upstreams: { 'api.example': upstream } });
    const { session, workdir } = place;
    mkdirSync(session.home, { mode: 0o700 });
    // Two segments of 8 MiB fit, and no third.
    expect(mount(['-t', 'tmpfs', '-o', 'size=20m', 'none', session.home])).toBe(0);
    try {
      copyFileSync(join(import.meta.dirname, 'inside/calls.mjs'), join(workdir, 'calls.mjs'));
      const record = join(workdir, 'record.txt');
      writeFileSync(record, '');
      chmodSync(record, 0o666);
      // Long paths fill the disk soon.
      const path = `/${'x'.repeat(3000)}`;
      const command = [NODE, 'calls.mjs', record, path, 'api.example', 'denied.example', '8'];
      const started = place.start(['--allow', 'api.example'], command);
      const statuses = () => lines(record).map((line) => line.split(' ')[1]);
      const refused = () => statuses().includes('503') || undefined;
      await eventually('refusals on a full disk', refused, 40_000);
      const told = upstream.arrivals.length;
      expect((await place.status()).ledger.state).toBe('failed');
      expect(statuses().lastIndexOf('200')).toBeLessThan(statuses().length - 1);
      const another = await place.run([], ['true']);
      expect(another.status).not.toBe(0);
      expect(another.stderr).toMatch(ONE_ERROR);
      expect(another.stderr).toContain('the disk is full');
      const { run = '' } = (await place.status()).runs[0] ?? {};
      expect((await session.belay(['kill', run])).status).toBe(0);
      expect((await started.ended).status).toBe(5);
      expect(started.stderr()).toContain('the disk is full');
      expect(upstream.arrivals.length, 'what arrived after the refusal').toBe(told);

      expect((await session.belay(['down'])).status).toBe(0);
      const still = await place.run([], ['true']);
      expect(still.status).toBe(69);
      expect(still.stderr).toMatch(ONE_ERROR);
      expect(mount(['-o', 'remount,size=64m', session.home])).toBe(0);
      expect((await place.run([], ['true'])).status).toBe(0);
      expect((await session.belay(['log', 'verify'])).status).toBe(0);
      const intents = entriesOnDisk(session.home).filter(({ type }) => type === 'intent');
      expect(intents.length).toBeGreaterThanOrEqual(told);
      expect((await session.belay(['down'])).status).toBe(0);
    } finally {
      await session.belay(['down']);
      spawnSync('umount', ['--lazy', session.home]);
    }
  },
  {
    timeoutMs: 90_000,
    skip: process.getuid?.() === 0 ? undefined : 'only root can mount a small filesystem',
  },
);

function mount(args: readonly string[]): number | null {
  return spawnSync('mount', args).status;
}
