// Credentials of two environments, used by two agents at once: each real value goes to its own place and
// nowhere else, and a placeholder that turns up where it does not belong stops its call.

import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { type Attempt, denials, openPlace, type Place } from './place.ts';
import { scratch, startUpstream, type Upstream } from './upstreams.ts';

const env = { S_KEY: 'staging-secret-1', P_KEY: 'production-secret-1', Q_KEY: 'query secret+&=1' };
const BASIC = 'basic-secret-1';
const AGENTS = { one: 'staging', two: 'production' } as const;
type Agent = keyof typeof AGENTS;

/** Refunds of up to $50, in cents. */
const REFUND = {
  type: 'object',
  properties: {
    charge: { type: 'string' },
    amount: { type: 'integer', minimum: 1, maximum: 5000 },
  },
  required: ['charge', 'amount'],
  additionalProperties: false,
};

/** The probe puts the variable in. */
const VARIABLE = '$'.concat('{KEY}');
const OWN = `Bearer ${VARIABLE}`;

let upstream: Upstream;
let place: Place;
let outside: ReturnType<typeof scratch>;

beforeAll(async () => {
  upstream = await startUpstream(['api.example', 'other.example']);
  outside = scratch();
  chmodSync(outside.path, 0o755);
  helper('helper', `echo ${BASIC}`);
  place = await openPlace();
  configure(`exec:${join(outside.path, 'helper')} --for bot`);
}, 60_000);

afterEach(() => {
  upstream.arrivals.length = 0;
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  outside?.[Symbol.dispose]();
}, 60_000);

function helper(name: string, script: string): string {
  const path = join(outside.path, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

function configure(basicFrom: string): void {
  const bearer = (environment: string, from: string) => ({
    ...{ from, environment, host: 'api.example', methods: ['GET', 'POST'], paths: ['/v1/**'] },
    ...{ header: 'authorization', format: 'Bearer {}', variable: 'KEY' },
  });
  const other = { environment: 'staging', host: 'other.example', methods: ['GET'] };
  const allow = ['api.example', 'api.example:8443', 'other.example'];
  const upstreams = ['api.example', 'other.example'].map((host) => [
    host,
    { address: upstream.address, tls: { ca: './ca.pem' } },
  ]);
  place.put('ca.pem', upstream.caPem);
  const config = {
    version: 1,
    agents: { one: { environment: 'staging' }, two: { environment: 'production' } },
    environments: { staging: {}, production: {} },
    grants: Object.entries(AGENTS).map(([agent, environment]) => ({ agent, environment, allow })),
    credentials: {
      's-api': bearer('staging', 'env:S_KEY'),
      'p-api': bearer('production', 'env:P_KEY'),
      query: { ...other, from: 'env:Q_KEY', paths: ['/q/**'], query: 'api_key', variable: 'Q' },
      pay: {
        ...{ from: 'env:S_KEY', environment: 'staging', host: 'api.example', methods: ['POST'] },
        ...{ paths: ['/refunds'], header: 'x-pay-key', body: REFUND },
      },
      basic: { ...other, from: basicFrom, paths: ['/b/**'], basic: 'bot', variable: 'B' },
    },
    upstreams: Object.fromEntries(upstreams),
  };
  place.put('belay.jsonc', JSON.stringify(config));
}

/** Both agents at once. */
async function both(attempts: (agent: Agent) => readonly Attempt[]) {
  const [one, two] = await Promise.all(
    (['one', 'two'] as const).map((agent) =>
      place.attempt(['--agent', agent], attempts(agent), { env }),
    ),
  );
  if (one === undefined || two === undefined) throw new TypeError('two agents');
  return { one, two };
}

const get = (url: string, authorization: string): Attempt => [
  'request',
  url,
  { headers: { authorization } },
];

verifies(
  ['vault.cross-env', 'vault.injected'],
  'the placeholder of one environment is worth nothing in the other, also while both are in use',
  async () => {
    const own = (agent: Agent): readonly Attempt[] => [
      ['env'],
      get(`https://api.example/v1/${agent}`, OWN),
    ];
    const shown = await both(own);
    const placeholders = {
      one: shown.one.results[0]?.value.KEY,
      two: shown.two.results[0]?.value.KEY,
    };
    expect(placeholders.one).not.toBe(placeholders.two);
    const seen = upstream.arrivals.map(({ url, headers }) => [url, headers.authorization]).sort();
    expect(seen).toEqual([
      ['/v1/one', `Bearer ${env.S_KEY}`],
      ['/v1/two', `Bearer ${env.P_KEY}`],
    ]);

    upstream.arrivals.length = 0;
    const swapped = await both((agent) => [
      get(
        `https://api.example/v1/${agent}`,
        `Bearer ${placeholders[agent === 'one' ? 'two' : 'one']}`,
      ),
    ]);
    for (const { results, run } of [swapped.one, swapped.two]) {
      expect(results[0]?.value).toMatchObject({ status: 403 });
      expect(denials(await place.entries(run.summary?.run))).toMatchObject([
        {
          code: 'credential.misplaced',
          reason: 'a placeholder that is not of this run, in the field `authorization`',
        },
      ]);
    }
    expect(upstream.arrivals).toEqual([]);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.cross-host',
  'a placeholder at another host, or in another place, stops its call',
  async () => {
    const strays: readonly (readonly [Attempt, string])[] = [
      [get('https://other.example/v1/x', OWN), 'in the field `authorization`'],
      [get('https://api.example:8443/v1/x', OWN), 'in the field `authorization`'],
      [
        ['request', 'https://api.example/v1/x', { headers: { 'x-key': VARIABLE } }],
        'in the field `x-key`',
      ],
      [['shell', 'curl -sS -w "%{http_code}" "https://api.example/v1/x?k=$KEY"'], 'in the key `k`'],
      [['shell', 'curl -sS -w "%{http_code}" "https://api.example/v1/$KEY"'], 'in the path'],
      ...['v1/x?k=', 'v1/'].map((where): readonly [Attempt, string] => [
        [
          'shell',
          `curl -sS -w "%{http_code}" "https://api.example/${where}%62$(printf %s "$KEY" | cut -c2-)"`,
        ],
        where === 'v1/' ? 'in the path' : 'in the key `k`',
      ]),
      [['shell', 'curl -sS -w "%{http_code}" -d "a=$KEY" https://api.example/v1/x'], 'in the body'],
      [
        ['shell', 'curl -sS -w "%{http_code}" -u "me:$KEY" https://other.example/v1/x'],
        'in the field `authorization`',
      ],
    ];
    const { one, two } = await both(() => strays.map(([attempt]) => attempt));
    for (const { results, run } of [one, two]) {
      for (const { value } of results) {
        expect(value.status === 403 || value.out.endsWith('403'), JSON.stringify(value)).toBe(true);
      }
      const refused = denials(await place.entries(run.summary?.run));
      expect(refused.map(({ code }) => code)).toEqual(strays.map(() => 'credential.misplaced'));
      for (const [i, [, where]] of strays.entries()) expect(refused[i]?.reason).toContain(where);
    }
    expect(upstream.arrivals).toEqual([]);
    // At its own host it may stand where it belongs, used or not.
    const fine = await place.attempt(
      ['--agent', 'one'],
      [get('https://api.example/v2/x', OWN), get('https://other.example/v1/x', 'Bearer x')],
      { env },
    );
    expect(fine.results.map(({ value }) => value.status)).toEqual([200, 200]);
    expect(JSON.stringify(upstream.arrivals)).not.toContain(env.S_KEY);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.places',
  'a credential stands in a key of the query, or is the password of Basic, where it is bound',
  async () => {
    const { results, run } = await place.attempt(
      ['--agent', 'one'],
      [
        ['shell', 'curl -sS -w "%{http_code}" "https://other.example/q/x?a=1%2F2&api_key=$Q&b="'],
        ['shell', 'curl -sS -w "%{http_code}" "https://other.example/q/none"'],
        ['shell', 'curl -sS -w "%{http_code}" -u "bot:$B" https://other.example/b/x'],
      ],
      { env },
    );
    expect(results.map(({ value }) => value.out)).toEqual(results.map(() => 'ok\n200'));
    const key = encodeURIComponent(env.Q_KEY);
    const basic = `Basic ${Buffer.from(`bot:${BASIC}`).toString('base64')}`;
    expect(upstream.arrivals.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      [`/q/x?a=1%2F2&b=&api_key=${key}`, undefined],
      [`/q/none?api_key=${key}`, undefined],
      ['/b/x', basic],
    ]);
    const entries = JSON.stringify(await place.entries(run.summary?.run));
    for (const secret of [env.Q_KEY, key, BASIC]) expect(entries).not.toContain(secret);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.body-schema',
  'refunds of up to $50 are paid, and nothing else that could be read as one',
  async () => {
    const json = { 'content-type': 'application/json' };
    const form = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
    const post = (headers: object, body: string): Attempt => [
      'request',
      'https://api.example/refunds',
      { method: 'POST', headers, body },
    ];
    const good = [
      post(json, '{ "charge": "c1", "amount": 5000 }'),
      post(form, 'charge=c2&amount=49'),
    ];
    const bad: readonly (readonly [Attempt, string])[] = [
      [post(json, '{"charge":"c","amount":5001}'), 'amount: '],
      [post(json, '{"charge":"c","amount":49.5}'), 'amount: '],
      [post(json, '{"charge":"c","amount":"49"}'), 'amount: '],
      [post(json, '{"charge":"c"}'), 'amount: '],
      [post(json, '{"charge":"c","amount":1,"amount":9999}'), 'a key comes twice'],
      [post(json, '{"charge":"c","amount":1,"amo\\u0075nt":9999}'), 'a key comes twice'],
      [post(json, '{"charge":"c","amount":1,"Amount":9999}'), 'a key comes twice'],
      [post(json, '{"charge":"c","amount":1,"to":"me"}'), 'credential `pay`: '],
      [post(json, '[{"charge":"c","amount":1}]'), 'credential `pay`: '],
      [post(json, '{"charge":"c","amount":1} {}'), 'it is not JSON'],
      [post({}, '{"charge":"c","amount":1}'), 'neither JSON nor a form'],
      [post({ ...json, 'content-encoding': 'gzip' }, '{"charge":"c","amount":1}'), 'it is encoded'],
      [post(form, 'charge=c&amount=5001'), 'amount: '],
      [post(form, 'charge=c&amount=1&amount=9999'), 'a field comes twice'],
      [post(form, 'charge=c&amount=1&AMOUN%54=9999'), 'a field comes twice'],
      [post(form, 'charge=c&amount=%2B1'), 'amount: '],
      [post(form, 'charge=c&amount=1e2'), 'amount: '],
      [post(json, ' '.repeat(1_100_000)), 'it is over 1 MiB'],
      [['request', 'https://api.example/refunds', { method: 'POST' }], 'there is none'],
    ];
    const { one, two } = await both(() => [...good, ...bad.map(([attempt]) => attempt)]);
    const status = one.results.map(({ value }) => value.status);
    expect(status).toEqual([...good.map(() => 200), ...bad.map(() => 403)]);
    const refused = denials(await place.entries(one.run.summary?.run));
    expect(refused.map(({ code }) => code)).toEqual(bad.map(() => 'credential.misplaced'));
    for (const [i, [, why]] of bad.entries()) expect(refused[i]?.reason).toContain(why);
    const paid = upstream.arrivals.filter(({ headers }) => headers['x-pay-key'] === env.S_KEY);
    expect(paid).toHaveLength(good.length);
    // The other environment has no such credential: it may ask what it likes, with nothing in hand.
    expect(two.results.map(({ value }) => value.status)).toEqual([...good, ...bad].map(() => 200));
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.exec',
  'a helper that fails, hangs, says too much or could be the agent’s own is one clear line',
  async () => {
    place.put('mine', '#!/bin/sh\necho secret-from-inside\n');
    chmodSync(join(place.workdir, 'mine'), 0o755);
    const secret = 'echo secret-on-stdout; echo secret-on-stderr >&2;';
    for (const [from, words] of [
      [helper('fails', `${secret} exit 3`), /ended with 3/],
      [helper('silent', 'exit 0'), /the secret is empty/],
      [helper('two', `${secret} echo second`), /said more than one line/],
      [helper('hangs', `${secret} exec sleep 60`), /did not answer within 10 s/],
      [helper('much', 'head -c 100000 /dev/zero'), /cannot be asked/],
      [join(outside.path, 'missing'), /does not exist/],
      ['no-such-helper', /does not exist/],
      [join(place.workdir, 'mine'), /is where the agent can write/],
      ['./mine', /does not exist/],
    ] as const) {
      configure(`exec:${from}`);
      const run = await place.run(['--agent', 'one'], ['true'], { env, timeoutMs: 30_000 });
      expect(run.status, run.stderr).toBe(2);
      expect(run.stderr).toMatch(words);
      expect(run.stderr).toMatch(/^belay: error: belay\.jsonc:[^\n]*credential `basic`/);
      expect(run.stderr).not.toContain('secret-');
      expect(run.stdout).toBe('');
    }
    configure(`exec:${join(outside.path, 'helper')} --for bot`);
    expect((await place.run(['--agent', 'one'], ['true'], { env })).status).toBe(0);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'vault.exec',
  'what an agent writes into a folder of PATH, or makes a link of, is not run as a helper',
  async () => {
    // As with direnv: the workspace's own programs come first.
    const bin = join(place.workdir, 'bin');
    mkdirSync(bin);
    const planted = `#!/bin/sh\ntouch ${bin}/ran\necho secret-from-inside\n`;
    const plant = (name: string): void => {
      writeFileSync(join(bin, name), planted);
      chmodSync(join(bin, name), 0o755);
    };
    const PATH = `${bin}:${outside.path}:${process.env.PATH}`;
    const asked = (from: string, args: readonly string[] = []) => {
      configure(`exec:${from}`);
      const variables = { ...env, PATH, BASH_ENV: join(bin, 'read') };
      return place.run(['--agent', 'one', ...args], ['true'], { env: variables });
    };
    const expectNothingRan = (): void => expect(existsSync(join(bin, 'ran'))).toBe(false);
    // By a link to a shell, which reads its first argument from the same folder.
    plant('read');
    symlinkSync('/bin/bash', join(bin, 'op'));
    const missing = await asked('op read op://vault/item');
    expectNothingRan();
    expect(missing.stderr).toMatch(/the helper `op` does not exist/);
    for (const way of [
      join(bin, 'op'),
      join(outside.path, 'way/op'),
      join(outside.path, 'to-op'),
    ]) {
      rmSync(join(outside.path, 'way'), { force: true });
      symlinkSync(bin, join(outside.path, 'way'));
      rmSync(join(outside.path, 'to-op'), { force: true });
      symlinkSync(join(bin, 'op'), join(outside.path, 'to-op'));
      const refused = await asked(`${way} ${join(bin, 'read')}`);
      expect(refused.stderr).toMatch(/the helper `.*` is where the agent can write/);
      expect(refused.status).toBe(2);
    }
    expectNothingRan();
    // What a good helper asks for by name is none of the agent's either.
    plant('pass-store');
    helper('pass-store', `echo ${BASIC}`);
    helper('asks', 'exec bash -c pass-store');
    const good = await asked('asks');
    expect(good.status, good.stderr).toBe(0);
    // A folder that is opened for writing is one of the agent's places too.
    const opened = await asked('asks', ['--allow-write', outside.path]);
    expect(opened.stderr).toMatch(/the helper `asks` does not exist/);
    expectNothingRan();
    // The harmless twin: the same name, from a folder outside.
    helper('op', `echo ${BASIC}`);
    const twin = await asked('op read op://vault/item');
    expect(twin.status, twin.stderr).toBe(0);
    expectNothingRan();
    configure(`exec:${join(outside.path, 'helper')} --for bot`);
  },
  { timeoutMs: 90_000 },
);
