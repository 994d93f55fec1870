// Who acts, and how far that goes: sub-runs that try to do more than their parents, or to outlive them,
// grants that end while bytes flow, and two environments side by side.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { Entry } from '../../src/core/entry.ts';
import { verifies } from '../verifies.ts';
import { denials, eventually, openPlace, type Place, type RunResult } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const env = { S_KEY: 'staging-secret-1', P_KEY: 'production-secret-1' };
const HOSTS = ['lead.example', 'worker.example', 'shared.example'] as const;
const SLEEP = ['sleep', '300'];

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream(HOSTS);
  place = await openPlace();
  configure();
}, 60_000);

afterEach(() => {
  upstream.arrivals.length = 0;
  upstream.answer = (_request, reply) => void reply.end('ok\n');
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

function configure(more: readonly string[] = []): void {
  place.put('ca.pem', upstream.caPem);
  const key = (environment: string, from: string) => ({
    ...{ from, environment, host: 'shared.example', methods: ['GET'], paths: ['/**'] },
    ...{ header: 'x-key', variable: 'KEY' },
  });
  const declared = { address: upstream.address, tls: { ca: './ca.pem' } };
  const config = {
    version: 1,
    agents: { lead: { environment: 'staging' }, worker: { environment: 'staging' } },
    environments: { staging: {}, production: {} },
    grants: [
      { agent: 'lead', environment: 'staging', allow: ['lead.example', 'shared.example', ...more] },
      { agent: 'worker', environment: 'staging', allow: ['worker.example', 'shared.example'] },
      { agent: 'lead', environment: 'production', allow: ['lead.example', 'shared.example'] },
    ],
    credentials: { 's-key': key('staging', 'env:S_KEY'), 'p-key': key('production', 'env:P_KEY') },
    upstreams: Object.fromEntries(HOSTS.map((host) => [host, declared])),
  };
  place.put('belay.jsonc', JSON.stringify(config));
}

/** A run that only waits, and its name. */
async function waiting(args: readonly string[] = [], command: readonly string[] = SLEEP) {
  const before = new Set((await runs()).map(({ run }) => run));
  const started = place.start(['--agent', 'lead', ...args], command, { env });
  const run = await eventually('a new run', async () => {
    const found = (await runs()).find((one) => !before.has(one.run) && one.state === 'open');
    return found?.run;
  });
  return { run, started };
}

async function runs() {
  const { stdout } = await place.session.belay(['ps', '--json']);
  const { runs: rows } = JSON.parse(stdout || '{"runs":[]}') as {
    runs: readonly { run: string; parent: string | null; state: string }[];
  };
  return rows;
}

/** `curl` in a run: a line with the status of each URL, 000 where there was none. */
function ask(args: readonly string[], urls: readonly string[], curl = ''): Promise<RunResult> {
  const lines = urls.map(
    (url) => `curl -s -m 10 -o /dev/null -w '%{http_code}\\n' ${curl} https://${url} || true`,
  );
  return place.run(args, ['sh', '-c', lines.join('\n')], { env, timeoutMs: 60_000 });
}

const statuses = ({ stdout }: RunResult) => stdout.trim().split('\n');
const codes = (entries: readonly Entry[]) => denials(entries).map(({ code }) => code);

verifies(
  'identity.attenuate',
  'a sub-run passes with what both it and its parent are granted, whatever it is allowed besides',
  async () => {
    const urls = HOSTS.map((host) => `${host}/x`);
    const free = await ask(['--agent', 'worker', '--allow', 'lead.example'], urls);
    expect(statuses(free)).toEqual(['200', '200', '200']);
    upstream.arrivals.length = 0;

    const parent = await waiting();
    const below = ['--parent', parent.run];
    // The parent's agent, unless another one is named.
    expect(statuses(await ask(below, urls))).toEqual(['200', '403', '200']);
    const other = await ask([...below, '--agent', 'worker', '--allow', 'lead.example'], urls);
    expect(statuses(other)).toEqual(['200', '403', '200']);
    expect(upstream.arrivals.map(({ host }) => host)).not.toContain('worker.example');
    expect(upstream.arrivals.map(({ headers }) => headers['x-key']).filter(Boolean)).toEqual([
      env.S_KEY,
      env.S_KEY,
    ]);

    const entries = await place.entries(other.summary?.run);
    expect(entries.find(({ type }) => type === 'run.open')).toMatchObject({ parent: parent.run });
    expect(codes(entries)).toEqual(['grant.parent']);
    expect(denials(entries)[0]?.reason).toContain(parent.run);
    // No flag of the sub-run would help.
    expect(other.summary?.denied[0]?.remedy).toBeNull();
    const intent = entries.find((entry) => entry.type === 'intent');
    expect(intent?.policies).toEqual([
      'grant:worker@staging/lead.example',
      'grant:lead@staging/lead.example',
    ]);
    await place.session.belay(['kill', parent.run]);
    await parent.started.ended;
  },
  { timeoutMs: 90_000 },
);

verifies(
  'identity.attenuate',
  'mode, calls and refusals of the parent hold for its sub-runs, all of them together',
  async () => {
    const shadow = await waiting(['--shadow']);
    const post = await ask(['--parent', shadow.run], ['shared.example/x'], '-d x=1');
    expect(statuses(post)).toEqual(['403']);
    expect(codes(await place.entries(post.summary?.run))).toEqual(['shadow.write']);
    expect(upstream.arrivals).toEqual([]);
    // The control: without a parent the same call passes.
    expect(statuses(await ask(['--agent', 'lead'], ['shared.example/x'], '-d x=1'))).toEqual([
      '200',
    ]);
    upstream.arrivals.length = 0;

    const capped = await waiting(['--budget', 'calls=3']);
    const more = ['--parent', capped.run, '--budget', 'calls=100'];
    const two = Array.from({ length: 2 }, () => 'shared.example/x');
    const [one, other] = [await ask(more, two), await ask(more, two)];
    expect([...statuses(one), ...statuses(other)]).toEqual(['200', '200', '200', '403']);
    expect(upstream.arrivals).toHaveLength(3);
    expect(denials(await place.entries(other.summary?.run))[0]).toMatchObject({
      code: 'budget.calls',
      reason: expect.stringContaining(capped.run),
    });

    // One refusal more than the cap stops the parent, and what is below it.
    const tried = await waiting(['--budget', 'denials=2']);
    const refused = Array.from({ length: 2 }, () => 'worker.example/x');
    expect((await ask(['--parent', tried.run], refused)).status).toBe(0);
    expect((await ask(['--parent', tried.run], refused)).status).toBe(5);
    expect((await tried.started.ended).status).toBe(5);
    for (const { run } of [shadow, capped]) await place.session.belay(['kill', run]);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'identity.attenuate',
  'what would be wider from the start is refused with the reason, and nothing is opened',
  async () => {
    const parent = await waiting();
    const refused = async (args: readonly string[], why: string, status = 2) => {
      const run = await place.run(['--parent', parent.run, ...args], ['true'], { env });
      expect(run.stderr).toContain(why);
      expect(run.status).toBe(status);
    };
    await refused(['--env', 'production'], 'sub-runs do not leave it');
    await refused(['--allow-write', '/var/tmp'], 'it may not write `/var/tmp`');
    await refused(['--allow-read', '/etc/hostname'], 'it may not read `/etc/hostname`');
    await refused(['--publish', '39321:3000'], 'a sub-run publishes no port');
    await refused(['--agent', 'nobody'], 'unknown agent');
    await refused(['--for', 'ever'], 'not understood');
    const outside = await place.run(
      ['--parent', parent.run, '--containment', 'external'],
      ['true'],
      { env },
    );
    expect(outside.status).not.toBe(0);
    const nobody = await place.run(['--parent', 'r-doesnotexist'], ['true'], { env });
    expect(nobody.status).toBe(2);
    // A configuration that someone widened meanwhile is another one.
    configure(['worker.example']);
    await refused([], 'its configuration is another');
    configure();
    expect((await runs()).map(({ run }) => run)).toEqual([parent.run]);
    const fine = await place.run(['--parent', parent.run, '--for', '1h'], ['true'], { env });
    expect(fine.status, fine.stderr).toBe(0);
    await place.session.belay(['kill', parent.run]);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'identity.attenuate',
  'what is covered in the workspace of a parent is not reached from another workspace, or by its name',
  async () => {
    await using bare = await openPlace();
    const outer = join(bare.workdir, 'outer');
    const [workspace, opened, seen] = [`${outer}/work`, `${outer}/opened`, `${bare.workdir}/seen`];
    const at = (name: string): string => join(workspace, name);
    for (const folder of [at('sub'), at('.git/hooks'), at('.claude'), `${opened}/in`, seen]) {
      mkdirSync(folder, { recursive: true });
    }
    const secret = 'the-real-value-1';
    writeFileSync(at('.git/HEAD'), 'ref: refs/heads/main\n');
    writeFileSync(at('.env'), `KEY=${secret}\n`, { mode: 0o644 });
    const cat = ['sh', '-c', `cat ${at('.env')}; true`];
    const work = (path: string): readonly string[] => ['--workdir', path];
    // The control: without a parent its user can open it.
    const control = await bare.run([...work(at('sub')), '--allow-read', at('.env')], cat);
    expect(control.stdout).toContain(secret);
    const writes = ['--allow-write', outer, '--allow-write', opened];
    const paths = [...work(workspace), ...writes, '--allow-read', seen];
    const parent = bare.start(paths, ['sh', '-c', `${cat[2]}; sleep 300`]);
    const run = await bare.openRun();
    await eventually('a covered file', () => parent.stdout().includes('KEY=') || undefined);
    expect(parent.stdout()).not.toContain(secret);

    const below = (args: readonly string[], command: readonly string[] = cat) =>
      bare.run(['--parent', run, ...args], command);
    const inOpened = work(opened);
    for (const [args, why] of [
      [[...work(at('sub')), '--allow-read', at('.env')], `may not work in \`${at('sub')}\``],
      [[...work(at('sub')), '--allow-write', at('.git/hooks')], 'may not work in'],
      [work(at('.git')), 'may not work in'],
      [work(at('.claude')), 'may not work in'],
      [work(seen), 'may not work in'],
      [work(join(opened, 'in')), 'may not work in'],
      [[...inOpened, '--allow-read', at('.env')], `may not read \`${at('.env')}\``],
      [[...inOpened, '--allow-write', at('.git/hooks')], 'may not write'],
      [[...inOpened, '--allow-read', workspace], 'may not read'],
      [[...inOpened, '--allow-read', outer], `may not read \`${outer}\``],
      [work(outer), `may not write \`${outer}\``],
      [[...inOpened, '--allow-write', seen], 'may not write'],
    ] as readonly (readonly [readonly string[], string])[]) {
      const refused = await below(args);
      expect(refused.stderr, args.join(' ')).toContain(why);
      expect(refused.status).toBe(2);
      expect(refused.stdout).toBe('');
    }
    // What the parent was opened passes: elsewhere without the workspace, and in it with its covers.
    const own = ['--allow-write', join(opened, 'in'), '--allow-read', seen];
    const touch = ['sh', '-c', `touch ${opened}/in/made && ls ${seen} && ${cat[2]}`];
    const other = await below([...inOpened, ...own], touch);
    expect(other.stderr).toContain('.env: No such file');
    expect(existsSync(join(opened, 'in/made'))).toBe(true);
    const same = await below([...work(workspace), '--allow-write', outer]);
    expect(same.stdout).toContain('KEY=');
    expect(same.stdout).not.toContain(secret);
    // Neither was configured: what stands for the missing file while a run lives is no configuration.
    const digests = (await bare.entries()).flatMap((entry) =>
      entry.type === 'run.open' ? [entry.config] : [],
    );
    expect(new Set(digests).size).toBe(1);
    await bare.session.belay(['kill', run]);
    await parent.ended;
  },
  { timeoutMs: 120_000 },
);

verifies(
  'identity.sub-run-end',
  'sub-runs are at most three deep, and end when one above them does, streams and all',
  async () => {
    const first = await waiting();
    const second = await waiting(['--parent', first.run]);
    const third = await waiting(['--parent', second.run]);
    let closed = 0;
    upstream.answer = (_request, reply) => {
      reply.write('data: 1\n\n');
      reply.on('close', () => (closed += 1));
    };
    const stream = ['curl', '-sN', 'https://shared.example/events'];
    const fourth = await waiting(['--parent', third.run], stream);
    await eventually('a stream', () => fourth.started.stdout().includes('data') || undefined);
    const fifth = await place.run(['--parent', fourth.run], ['true'], { env });
    expect(fifth.stderr).toContain('at most 3 deep');
    expect(await runs()).toMatchObject([
      { parent: null },
      { parent: first.run },
      { parent: second.run },
      { parent: third.run },
    ]);

    // Its own launcher, which would end what is below it, cannot.
    second.started.child.kill('SIGSTOP');
    await place.session.belay(['kill', second.run]);
    for (const { started } of [third, fourth]) {
      expect(await eventually('its end', () => started.child.exitCode ?? undefined)).toBe(5);
    }
    second.started.child.kill('SIGCONT');
    expect((await second.started.ended).status).toBe(5);
    expect(closed).toBe(1);
    expect((await runs()).map(({ run }) => run)).toEqual([first.run]);

    // An end by itself is one too.
    const until = ['sh', '-c', 'until [ -e go ]; do sleep 0.1; done'];
    const brief = await waiting(['--parent', first.run], until);
    const orphan = await waiting(['--parent', brief.run]);
    place.put('go', '');
    expect((await brief.started.ended).status).toBe(0);
    expect((await orphan.started.ended).status).toBe(5);
    expect(orphan.started.stderr()).toContain(`its parent \`${brief.run}\` ended`);
    await place.session.belay(['kill', first.run]);
    await first.started.ended;
  },
  { timeoutMs: 120_000 },
);

verifies(
  ['identity.expiry-mid-stream', 'identity.sub-run-end'],
  'a grant that ends cuts what is open and denies the rest, of sub-runs that asked for longer too',
  async () => {
    const parent = await waiting(['--for', '6s']);
    const open = (await place.entries(parent.run)).find((entry) => entry.type === 'run.open');
    const endsAt = open?.expiresAt ?? 0;
    expect(Math.abs(endsAt - (open?.ts ?? 0) - 6_000)).toBeLessThan(1_000);
    upstream.answer = (request, reply) => {
      if (request.url === '/x') return void reply.end('ok\n');
      // A stream that goes on, and one that is silent.
      reply.write('data: 1\n\n');
      if (request.url !== '/events') return;
      const beat = setInterval(() => reply.write('data: 2\n\n'), 100);
      reply.on('close', () => clearInterval(beat));
    };
    const get = (path: string) => `curl -sN https://shared.example/${path}`;
    const script = [
      `curl -s -o /dev/null -w '%{http_code}\\n' https://shared.example/x`,
      `${get('silent')} > silent.txt & quiet=$!`,
      `${get('events')} > events.txt; echo "cut $?"`,
      'wait $quiet; echo "cut $?"',
      `curl -s -o /dev/null -w '%{http_code}\\n' https://shared.example/x`,
    ].join('\n');
    const child = await place.run(['--parent', parent.run, '--for', '1h'], ['sh', '-c', script], {
      env,
      timeoutMs: 60_000,
    });
    const lines = child.stdout.trim().split('\n');
    expect(lines[0]).toBe('200');
    expect(lines.slice(1, 3).every((line) => /^cut (?!0)/.test(line))).toBe(true);
    expect(lines[3]).toBe('403');
    const entries = await place.entries(child.summary?.run);
    const outcomes = entries.filter((entry) => entry.type === 'outcome');
    expect(outcomes.map(({ error }) => error?.reason)).toEqual([
      undefined,
      'the grant expired',
      'the grant expired',
    ]);
    for (const { error, ts } of outcomes) {
      if (error === undefined) continue;
      expect(ts - endsAt).toBeGreaterThanOrEqual(0);
      expect(ts - endsAt).toBeLessThan(1_000);
    }
    expect(codes(entries)).toEqual(['grant.expired']);
    expect(entries.some(({ type }) => type === 'grant.expired')).toBe(true);
    expect(child.stderr).toContain('denied from here on');
    await place.session.belay(['kill', parent.run]);
    await parent.started.ended;
  },
  { timeoutMs: 90_000 },
);

verifies(
  'identity.two-environments',
  'two agents at once, each in its environment, meet in nothing but the upstream',
  async () => {
    const sockets = new Map<number, Set<string>>();
    upstream.answer = (request, reply) => {
      const { remotePort = 0 } = request.socket;
      const keys = sockets.get(remotePort) ?? new Set();
      sockets.set(remotePort, keys.add(String(request.headers['x-key'])));
      setTimeout(() => reply.end('ok\n'), 20);
    };
    const urls = Array.from({ length: 5 }, (_, i) => `shared.example/${i}`);
    const both = () =>
      Promise.all(
        ['staging', 'production'].map((name) => ask(['--agent', 'lead', '--env', name], urls)),
      );
    const [one, other] = await both();
    await both();
    for (const run of [one, other]) expect(run && statuses(run)).toEqual(urls.map(() => '200'));
    expect(upstream.arrivals).toHaveLength(20);
    // A connection saw one environment; the control: runs of one environment do share.
    expect([...sockets.values()].every((keys) => keys.size === 1)).toBe(true);
    expect(sockets.size).toBeLessThan(8);
    const seen = new Set([...sockets.values()].flatMap((keys) => [...keys]));
    expect(seen).toEqual(new Set([env.S_KEY, env.P_KEY]));
    for (const [run, name, credential] of [
      [one, 'staging', 's-key'],
      [other, 'production', 'p-key'],
    ] as const) {
      const entries = await place.entries(run?.summary?.run);
      const intents = entries.filter((entry) => entry.type === 'intent');
      expect(new Set(intents.map((intent) => intent.env))).toEqual(new Set([name]));
      expect(new Set(intents.flatMap(({ credentials }) => credentials))).toEqual(
        new Set([credential]),
      );
    }
  },
  { timeoutMs: 90_000 },
);
