// What becomes of calls, from a program in the sandbox to a real HTTPS upstream and back: written
// down first, keys put in on the way, capped, refused in shadow, permitted by exactly what was said.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { entriesOnDisk } from './ledger-files.ts';
import { type Attempt, denials, eventually, openPlace, type Place } from './place.ts';
import { startUpstream, strangeAuthority, type Upstream } from './upstreams.ts';

const API_KEY = `sk-${randomBytes(16).toString('hex')}`;
/** So that no file of the test's own holds the whole key. */
const KEY_PARTS = [API_KEY.slice(0, 9), API_KEY.slice(9)];
const HOSTS = ['api.example', 'other.example', 'bad.example', 'api.github.com'];

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream(HOSTS);
  place = await openPlace({
    upstreams: {
      'api.example': upstream,
      'other.example': upstream,
      'api.github.com': upstream,
      'bad.example': { ...upstream, caPem: strangeAuthority() },
      'dead.example': { address: '127.0.0.1:1' },
    },
    credentials: {
      api: {
        from: 'env:API_KEY',
        environment: 'local',
        host: 'api.example',
        methods: ['GET', 'POST'],
        paths: ['/v1/**'],
        header: 'authorization',
        format: 'Bearer {}',
        variable: 'API_KEY',
      },
    },
  });
}, 60_000);

afterEach(() => {
  upstream.arrivals.length = 0;
  upstream.answer = (_request, reply) => void reply.end('ok\n');
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

const env = { API_KEY };
const BEARER = { authorization: `Bearer \${API_KEY}` };

verifies(
  'log.before-effect',
  'the upstream finds the intent of each request on the disk when it arrives',
  async () => {
    const early: string[] = [];
    let settled = 0;
    upstream.answer = (_request, reply, { url }) => {
      const entries = entriesOnDisk(place.session.home);
      const intent = entries.findLast((entry) => entry.type === 'intent' && entry.path === url);
      if (intent === undefined) early.push(url);
      else if (entries.some((e) => e.type === 'outcome' && e.call === intentCall(intent))) {
        settled += 1;
      }
      reply.end('ok\n');
    };
    const paths = Array.from({ length: 20 }, (_, i) => `/effect/${i}`);
    const { results } = await place.attempt(
      ['--allow', 'api.example'],
      paths.map((path, i) => [
        'request',
        `https://api.example${path}`,
        i % 2 === 0 ? {} : { method: 'POST', body: 'x'.repeat(100) },
      ]),
      { env },
    );
    expect(results.map(({ value }) => value.status)).toEqual(paths.map(() => 200));
    expect(upstream.arrivals.map(({ url }) => url)).toEqual(paths);
    expect(early, 'arrived before their intent').toEqual([]);
    expect(settled, 'settled before they arrived').toBe(0);

    // The control: what comes past the gateway is found out.
    await past('/effect/stranger');
    expect(early).toEqual(['/effect/stranger']);
  },
  { timeoutMs: 40_000 },
);

function intentCall(entry: { readonly type: string } & object): unknown {
  return 'call' in entry ? entry.call : undefined;
}

/** A request straight to the upstream. */
function past(path: string): Promise<void> {
  const [host, port] = upstream.address.split(':');
  return new Promise((resolve, reject) => {
    request({ host, port, path, rejectUnauthorized: false, agent: false }, (response) => {
      response.resume().on('end', () => resolve());
    })
      .on('error', reject)
      .end();
  });
}

verifies(
  ['vault.injected', 'vault.cross-host'],
  'the real key goes to its host, port, method and path, and a placeholder goes nowhere else',
  async () => {
    const { results, run } = await place.attempt(
      ['--allow', 'api.example', '--allow', 'api.example:8443', '--allow', 'other.example'],
      [
        ['request', 'https://api.example/v1/bound', { headers: BEARER }],
        ['request', 'https://api.example:8443/v1/bound', { headers: BEARER }],
        ['request', 'https://api.example/v1/unasked'],
        ['request', 'https://api.example/elsewhere', { headers: BEARER }],
        ['request', 'https://api.example/v1/method', { method: 'PUT', headers: BEARER }],
        ['request', 'https://other.example/v1/bound', { headers: BEARER }],
        ['env'],
      ],
      { env },
    );
    const placeholder = results.at(-1)?.value.API_KEY;
    expect(placeholder).toMatch(/\S{16,}/);
    expect(placeholder).not.toContain(API_KEY);
    const seen = new Map(
      upstream.arrivals.map(({ host, url, headers }) => [`${host}${url}`, headers.authorization]),
    );
    expect(seen.get('api.example/v1/bound')).toBe(`Bearer ${API_KEY}`);
    expect(seen.get('api.example/v1/unasked')).toBe(`Bearer ${API_KEY}`);
    // Its own host may see the placeholder where the key is not bound; no other place may.
    for (const what of ['api.example/elsewhere', 'api.example/v1/method']) {
      expect(seen.get(what)).toBe(`Bearer ${placeholder}`);
    }
    const refused = denials(await place.entries(run.summary?.run)).map((entry) => [
      `${entry.host}:${entry.port}`,
      entry.code,
    ]);
    expect(refused).toEqual([
      ['api.example:8443', 'credential.misplaced'],
      ['other.example:443', 'credential.misplaced'],
    ]);
    expect(seen.size).toBe(4);
  },
  { timeoutMs: 30_000 },
);

verifies(
  ['vault.never-inside', 'log.no-secrets'],
  'the real key is nowhere inside the sandbox, nor in the ledger',
  async () => {
    const scans = [
      ['env'],
      ['environScan', KEY_PARTS],
      ['memoryScan', KEY_PARTS],
      ['fileScan', KEY_PARTS],
    ] as const;
    const call = ['request', 'https://api.example/v1/x', { headers: BEARER }] as const;
    const { results } = await place.attempt(['--allow', 'api.example'], [call, ...scans], { env });
    expect(upstream.arrivals[0]?.headers.authorization, 'it is in use').toContain(API_KEY);
    const [, shown, environ, memory, files] = results;
    expect(Object.values(shown?.value).join(' ')).not.toContain(API_KEY);
    expect(environ?.value).toEqual([]);
    expect(memory?.value).toEqual([]);
    expect(files?.value).toEqual([]);
    const search = ['grep', '-rla', API_KEY, place.session.home];
    expect((await place.session.exec(search)).stdout, 'the state of Belay').toBe('');

    const [outside] = await place.control([['env']], { env });
    expect(Object.values(outside?.value)).toContain(API_KEY);
    place.put('planted.txt', `a ${API_KEY} b`);
    const planted = await place.attempt([], [['fileScan', KEY_PARTS]], { env });
    expect(planted.results[0]?.value).toEqual([join(place.workdir, 'planted.txt')]);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'vault.placeholder',
  'a placeholder is the same in the next run, another in another workspace, and opens nothing itself',
  async () => {
    const show = ['sh', '-c', 'echo "$API_KEY"'];
    const [first, second] = [
      await place.run([], show, { env }),
      await place.run([], show, { env }),
    ];
    expect(first.stdout).toMatch(/^blp-api-[0-9a-f]{32}\n$/);
    expect(second.stdout).toBe(first.stdout);
    const other = join(place.workdir, 'other');
    mkdirSync(other);
    // Its authorities lie in the first one.
    const config = JSON.parse(readFileSync(join(place.workdir, 'belay.jsonc'), 'utf8'));
    writeFileSync(join(other, 'belay.jsonc'), JSON.stringify({ ...config, upstreams: {} }));
    const elsewhere = await place.run(['--workdir', other], show, { env });
    expect(elsewhere.stdout).toMatch(/^blp-api-[0-9a-f]{32}\n$/);
    expect(elsewhere.stdout).not.toBe(first.stdout);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'shadow.writes-refused',
  'in shadow mode reads pass and writes get an ordinary 403 that names the review',
  async () => {
    const { results, run } = await place.attempt(
      ['--shadow', '--allow', 'api.example'],
      [
        ['request', 'https://api.example/items'],
        ['request', 'https://api.example/items', { method: 'POST', body: '{"name":"x"}' }],
        ['request', 'https://api.example/items/1', { method: 'DELETE' }],
      ],
      { env },
    );
    expect(results.map(({ value }) => value.status)).toEqual([200, 403, 403]);
    expect(results[1]?.value.text).toContain(`under review (${run.summary?.run})`);
    expect(upstream.arrivals.map(({ method }) => method)).toEqual(['GET']);
    const refused = denials(await place.entries(run.summary?.run));
    expect(refused).toMatchObject([
      { code: 'shadow.write', method: 'POST', effect: 'write', mode: 'shadow' },
      { code: 'shadow.write', method: 'DELETE', path: '/items/1' },
    ]);
    expect(run.summary?.denied.map(({ code, count }) => [code, count])).toEqual([
      ['shadow.write', 1],
      ['shadow.write', 1],
    ]);

    // The control: without --shadow the same write arrives.
    const write = ['request', 'https://api.example/items', { method: 'POST', body: 'x' }] as const;
    const live = await place.attempt(['--allow', 'api.example'], [write], { env });
    expect(live.results[0]?.value.status).toBe(200);
    expect(upstream.arrivals.map(({ method }) => method)).toEqual(['GET', 'POST']);
  },
  { timeoutMs: 30_000 },
);

verifies(
  'budget.calls',
  'a run makes at most its cap of calls, also when it makes them at once',
  async () => {
    const { results, run } = await place.attempt(
      ['--allow', 'api.example', '--budget', 'calls=5'],
      [
        ['requests', 'https://api.example/many', 30],
        ['request', 'https://api.example/more'],
      ],
      { env },
    );
    const many = results[0]?.value as readonly { status: number; text: string }[];
    expect(many.filter(({ status }) => status === 200)).toHaveLength(5);
    expect(many.filter(({ status }) => status === 403)).toHaveLength(25);
    expect(results[1]?.value).toMatchObject({ status: 403 });
    expect(results[1]?.value.text).toContain('budget for calls');
    expect(upstream.arrivals).toHaveLength(5);
    expect(run.summary).toMatchObject({ calls: 5, denials: 26 });
  },
  { timeoutMs: 30_000 },
);

verifies(
  'budget.denials',
  'a run that knocks for ever at what is closed is stopped, its user hears why, and the ledger stays small',
  async () => {
    await using place = await openPlace({ caps: { denials: 40 } });
    const script = `
      const { connect } = require('node:net');
      const knock = () => connect(9999, '203.0.113.7').on('error', () => {}).on('connect', function () {
        this.end();
      }).on('close', knock);
      for (let i = 0; i < 8; i++) knock();
      const ask = () => fetch('http://denied.example/' + 'x'.repeat(9000)).catch(() => {}).then(ask);
      ask();`;
    const run = await place.run([], [process.execPath, '-e', script], { timeoutMs: 20_000 });
    expect(run.status, run.stderr).toBe(5);
    const why = 'killed: refused more than 40 times, its cap of denials';
    expect(run.stderr).toContain(`belay: error: ${run.summary?.run} was ${why}`);
    const entries = await place.entries(run.summary?.run);
    const refused = entries.filter(({ type }) => type === 'denial' || type === 'net.denial');
    expect(refused).toHaveLength(40);
    expect(entries.filter(({ type }) => type === 'stop.set')).toHaveLength(1);
    expect(entries.at(-1)).toMatchObject({ type: 'run.close', reason: why });
    expect(JSON.stringify(refused).length).toBeLessThan(40 * 1500);
    expect((await place.run([], ['true'])).status).toBe(0);
  },
  { timeoutMs: 40_000 },
);

verifies(
  'gw.denial-storm',
  'refusals are answered later and later, then new calls wait; what is on the road and other runs go on',
  async () => {
    upstream.answer = (request, reply) => {
      if (request.url !== '/slow') return void reply.end('ok\n');
      let left = 30;
      const more = setInterval(() => {
        reply.write('.');
        left -= 1;
        if (left > 0) return;
        clearInterval(more);
        reply.end();
      }, 500);
    };
    await using stormy = await openPlace({
      allow: ['api.example'],
      caps: { denialsPerMinute: 20 },
      upstreams: { 'api.example': upstream },
    });
    const script = `
      curl -sS https://api.example/slow > slow.txt & slow=$!
      for i in $(seq 12); do curl -s -o refused.txt -w '%{http_code} %{time_total}\\n' https://denied.example/$i; done
      for i in $(seq 16); do curl -s -o /dev/null https://denied.example/$i & many="$many $!"; done
      sleep 4
      curl -sS -w '%{http_code} %{time_total}\\n' https://api.example/after
      wait $many $slow
      cat slow.txt`;
    const started = stormy.start([], ['sh', '-c', script], { timeoutMs: 90_000 });
    const run = await stormy.openRun();
    await eventually(
      'a pause',
      async () => {
        const { runs } = await stormy.status();
        return runs.find(({ state }) => state === 'paused');
      },
      20_000,
    );
    const beside = await stormy.run([], ['curl', '-sS', 'https://api.example/beside']);
    expect(beside.stdout).toBe('ok\n');
    expect((await started.ended).status, started.stderr()).toBe(0);
    const said = started.stdout().trim().split('\n');
    const waits = said.slice(0, 12).map((line) => Number(line.replace(/^403 /, '')));
    // Four are free; the last of twelve waits for about half of two seconds.
    expect(Math.max(...waits.slice(0, 4)), said.join()).toBeLessThan(waits[11] as number);
    expect(waits[11]).toBeGreaterThan(0.4);
    expect(waits[11]).toBeLessThan(2.5);
    expect(said[12]).toBe('ok');
    const [status, seconds] = (said[13] as string).split(' ').map(Number);
    expect(said[14]).toBe('.'.repeat(30));
    expect(status).toBe(200);
    expect(started.stderr()).toContain(
      'belay: paused for 30 s: refused more than 20 times within a minute',
    );
    const entries = await stormy.entries(run);
    const set = entries.find(({ type }) => type === 'stop.set');
    const lifted = entries.find(({ type }) => type === 'stop.lifted');
    expect(set).toMatchObject({ detail: { state: 'paused' } });
    const heldMs = (lifted?.ts as number) - (set?.ts as number);
    expect(heldMs).toBeGreaterThan(29_000);
    expect(seconds).toBeGreaterThan(15);
    const after = entries.find((entry) => entry.type === 'intent' && entry.path === '/after');
    expect(after?.index).toBeGreaterThan(lifted?.index as number);
    expect(entries.filter((entry) => entry.type === 'outcome' && entry.error)).toEqual([]);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'budget.bytes',
  'a run moves at most its cap of bytes, also in the middle of a stream, both ways',
  async () => {
    const CAP = 100_000;
    let arrivedBytes = 0;
    upstream.answer = (ask, reply) => {
      ask.on('data', (chunk: Buffer) => (arrivedBytes += chunk.length));
      if (ask.method === 'POST') return void ask.on('end', () => reply.end('ok'));
      let left = 64;
      const more = (): void => {
        while (left > 0 && !reply.destroyed) {
          left -= 1;
          if (!reply.write(Buffer.alloc(65_536))) return void reply.once('drain', more);
        }
        reply.end();
      };
      more();
    };
    const flags = ['--allow', 'api.example', '--budget', `bytes=${CAP}`];
    const down = await place.attempt(flags, [['request', 'https://api.example/down']], { env });
    expect(down.results[0]?.value.receivedBytes).toBeLessThanOrEqual(CAP);
    expect(down.results[0]?.value.error).toBeDefined();
    expect(down.run.summary?.bytes).toBeLessThanOrEqual(CAP);
    const up = await place.attempt(
      flags,
      [['request', 'https://api.example/up', { method: 'POST', sizeBytes: 4 << 20 }]],
      { env },
    );
    expect(up.results[0]?.value.status).not.toBe(200);
    expect(arrivedBytes).toBeLessThanOrEqual(CAP);
    expect(up.run.summary?.bytes).toBeLessThanOrEqual(CAP);

    const free = await place.attempt(
      ['--allow', 'api.example'],
      [['request', 'https://api.example/down']],
      { env },
    );
    expect(free.results[0]?.value).toMatchObject({ status: 200, receivedBytes: 64 * 65_536 });
  },
  { timeoutMs: 60_000 },
);

verifies(
  'policy.allow',
  '`--allow HOST` and `--allow PRESET` permit exactly that',
  async () => {
    const attempts = [
      ['request', 'https://api.example/'],
      ['request', 'https://api.example/', { method: 'DELETE' }],
      ['request', 'https://api.example:8443/'],
      ['request', 'https://sub.api.example/'],
      ['request', 'https://other.example/'],
      ['request', 'https://api.github.com/repos/a/b'],
      ['request', 'https://api.github.com/repos/a/b/issues', { method: 'POST', body: '{}' }],
    ] as const;
    const statuses = async (flags: readonly string[]): Promise<readonly number[]> => {
      const { results } = await place.attempt(flags, attempts, { env });
      return results.map(({ value }) => value.status);
    };
    expect(await statuses([])).toEqual([403, 403, 403, 403, 403, 403, 403]);
    expect(upstream.arrivals).toEqual([]);
    expect(await statuses(['--allow', 'api.example'])).toEqual([200, 200, 403, 403, 403, 403, 403]);
    expect(await statuses(['--allow', 'github-read'])).toEqual([403, 403, 403, 403, 403, 200, 403]);
    expect(upstream.arrivals.map(({ method, host }) => `${method} ${host}`)).toEqual([
      'GET api.example',
      'DELETE api.example',
      'GET api.github.com',
    ]);
  },
  { timeoutMs: 40_000 },
);

verifies(
  ['gw.intercept', 'gw.deny-inside-tls'],
  'TLS is answered by the installation CA, for a denied host too, which is then told 403',
  async () => {
    const { results } = await place.attempt(
      ['--allow', 'api.example'],
      [
        ['issuer', 'api.example', 443],
        ['issuer', 'denied.example', 443],
        ['request', 'https://denied.example/'],
        ['shell', 'curl -sS -o /dev/null -w "%{http_code}" https://denied.example/ || true'],
      ],
      { env },
    );
    const [allowed, denied, told, curl] = results;
    const issuer = expect.stringMatching(/^Belay local authority /);
    expect(allowed?.value).toMatchObject({ issuer, names: 'DNS:api.example', trusted: true });
    expect(denied?.value).toMatchObject({ issuer, names: 'DNS:denied.example', trusted: true });
    expect(told?.value).toMatchObject({ status: 403 });
    expect(JSON.parse(told?.value.text)).toMatchObject({ error: { type: 'belay_denied' } });
    if (curl?.value.err === '') expect(curl.value.out, 'curl trusts it too').toBe('403');
  },
  { timeoutMs: 30_000 },
);

const CONTEXT = `
@id("json-alone")
forbid (principal, action == Action::"http.write", resource == Host::"other.example")
unless { context.contentType == "application/json" };
@id("three-calls")
forbid (principal, action, resource == Host::"api.github.com") when { context.hostCalls >= 3 };
@id("first-met-early")
forbid (principal, action, resource) when { context.hostCalls == 0 && context.runCalls >= 5 };
`;

verifies(
  'policy.context',
  'policies that ask for a type, for calls to a host and for hosts that are new hold',
  async () => {
    mkdirSync(join(place.workdir, 'policies'), { recursive: true, mode: 0o755 });
    place.put('policies/context.cedar', CONTEXT);
    const post = (type: string): Attempt => [
      'request',
      'https://other.example/x',
      { method: 'POST', body: '{}', headers: { 'content-type': type } },
    ];
    const get: Attempt = ['request', 'https://api.github.com/x'];
    const hosts = ['other.example', 'api.github.com', 'api.example'];
    const { results, run } = await place.attempt(
      hosts.flatMap((host) => ['--allow', host]),
      [
        ...[post('Application/JSON; charset=utf-8'), post('text/plain'), post('')],
        ...[get, get, get, get, post('application/json')],
        ['request', 'https://api.example/first'],
      ],
      { env },
    );
    const statuses = results.map(({ value }) => value.status);
    expect(statuses).toEqual([200, 403, 403, 200, 200, 200, 403, 200, 403]);
    const found = denials(await place.entries(run.summary?.run));
    expect(found.flatMap(({ policies }) => policies)).toEqual([
      'json-alone',
      'json-alone',
      'three-calls',
      'first-met-early',
    ]);
    // Another run begins anew.
    const again = await place.attempt(['--allow', 'api.github.com'], [get], { env });
    expect(again.results[0]?.value.status).toBe(200);
    rmSync(join(place.workdir, 'policies'), { recursive: true });
  },
  { timeoutMs: 60_000 },
);

const MODELS = {
  'https://api.anthropic.com/v1/messages': (message: string) => ({
    type: 'error',
    error: { type: 'invalid_request_error', message },
  }),
  'https://api.openai.com/v1/responses': (message: string) => ({
    error: { message, type: 'invalid_request_error', param: null, code: 'belay_denied' },
  }),
  'https://generativelanguage.googleapis.com/v1beta/models/m:generateContent': (
    message: string,
  ) => ({ error: { code: 400, message, status: 'FAILED_PRECONDITION' } }),
};

verifies(
  'gw.denied-model',
  'a model call that policy, budget or mode refuses is told 400 as its provider would',
  async () => {
    const ask = (url: string): Attempt => ['request', url, { method: 'POST', body: '{}' }];
    const urls = Object.keys(MODELS);
    const twin = 'https://api.openai.com/v1/files';
    const refused = await place.attempt([], [...urls, twin].map(ask), { env });
    const presets = ['anthropic', 'openai', 'google'].flatMap((name) => [
      '--allow',
      `model:${name}`,
    ]);
    const unfunded = await place.attempt([...presets, '--budget', 'calls=0'], urls.map(ask), {
      env,
    });
    for (const { results } of [refused, unfunded]) {
      for (const [i, shape] of Object.values(MODELS).entries()) {
        const { status, text } = results[i]?.value ?? {};
        expect(status).toBe(400);
        const value = JSON.parse(text);
        expect(value).toEqual(shape(value.error.message));
        expect(value.error.message).not.toBe('');
      }
    }
    // What is no model call there is told like any other.
    const { status, text } = refused.results.at(-1)?.value ?? {};
    expect(status).toBe(403);
    expect(JSON.parse(text)).toMatchObject({ error: { type: 'belay_denied' } });
    const entries = denials(await place.entries(unfunded.run.summary?.run));
    expect(entries.map(({ told, code }) => [told.dialect, code])).toEqual(
      ['anthropic', 'openai', 'google'].map((dialect) => [dialect, 'budget.calls']),
    );
  },
  { timeoutMs: 40_000 },
);

verifies(
  ['gw.dead-upstream', 'gw.bad-certificate'],
  'a dead upstream and one that does not verify are a 502 with one clear reason',
  async () => {
    const { results, run } = await place.attempt(
      ['--allow', 'dead.example', '--allow', 'bad.example'],
      [
        ['request', 'https://dead.example/'],
        ['request', 'https://bad.example/'],
      ],
      { env },
    );
    expect(results.map(({ value }) => value.status)).toEqual([502, 502]);
    expect(results[0]?.value.text).toContain('could not be reached');
    expect(upstream.arrivals).toEqual([]);
    const outcomes = (await place.entries(run.summary?.run)).filter(
      ({ type }) => type === 'outcome',
    );
    expect(outcomes).toMatchObject([
      { error: { code: 'upstream.unreachable' } },
      { error: { code: 'upstream.tls' } },
    ]);
  },
  { timeoutMs: 30_000 },
);

verifies(
  'gw.ssrf',
  'loopback, private and metadata addresses are refused though policy permits them',
  async () => {
    const server = createServer((_request, reply) => void reply.end('host\n'));
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const { port } = server.address() as AddressInfo;
    const own = Object.values(networkInterfaces())
      .flatMap((found) => found ?? [])
      .find(({ internal, family }) => !internal && family === 'IPv4')?.address;
    const addresses = ['10.0.0.1', '169.254.169.254', '192.168.1.1', ...(own ? [own] : [])];
    try {
      const targets = addresses.map((address) => `${address}:${port}`);
      const { results, run } = await place.attempt(
        ['--allow', `localhost:${port}`, ...targets.flatMap((target) => ['--allow', target])],
        [
          ['requestByDns', 'localhost', port],
          ...targets.map((target) => ['request', `http://${target}/`] as const),
        ],
        { env },
      );
      expect(results.map(({ value }) => value.status)).toEqual(results.map(() => 403));
      const codes = denials(await place.entries(run.summary?.run)).map(({ code }) => code);
      const outcomes = (await place.entries(run.summary?.run)).flatMap((entry) =>
        entry.type === 'outcome' ? [entry.error?.code] : [],
      );
      expect([...codes, ...outcomes]).toEqual(results.map(() => 'address.refused'));
      const [outside] = await place.control([['request', `http://localhost:${port}/`]]);
      expect(outside?.value).toMatchObject({ status: 200, text: 'host\n' });
    } finally {
      server.close();
    }
  },
  { timeoutMs: 30_000 },
);
