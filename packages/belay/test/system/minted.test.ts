// Tokens that an upstream answers with, for two agents in two environments at once: each gets a
// placeholder, which works at the hosts that were declared for it and nowhere else. And credentials that
// stand in a member of a body.

import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { Outcome } from '../../src/core/entry.ts';
import { verifies } from '../verifies.ts';
import { type Attempt, denials, openPlace, type Place, type RunResult } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const env = { ONE: 'staging-client+secret/1', TWO: 'production client&secret=2' };
const AGENTS = { one: 'staging', two: 'production' } as const;
type Agent = keyof typeof AGENTS;
const HOSTS = ['auth.example', 'api.example', 'other.example'];
const FORM = 'application/x-www-form-urlencoded';
const JSON_TYPE = 'application/json';

interface Asked {
  readonly host: string;
  readonly url: string;
  readonly type: string;
  readonly authorization: string | undefined;
  readonly body: string;
}

let upstream: Upstream;
let place: Place;
/** What arrived, with its body. */
const asked: Asked[] = [];
/** Every token that the upstream has made. */
const tokens: string[] = [];

beforeAll(async () => {
  upstream = await startUpstream(HOSTS);
  place = await openPlace();
  place.put('ca.pem', upstream.caPem);
  const declared = { address: upstream.address, tls: { ca: './ca.pem' } };
  const client = (environment: string, from: string) => ({
    ...{ from, environment, host: 'auth.example', methods: ['POST'], paths: ['/oauth/**'] },
    ...{ field: 'client_secret', variable: 'SECRET' },
    mints: { hosts: ['api.example'], keys: ['Ticket'] },
  });
  const config = {
    version: 1,
    agents: { one: { environment: 'staging' }, two: { environment: 'production' } },
    environments: { staging: {}, production: {} },
    grants: Object.entries(AGENTS).map(([agent, environment]) => ({
      ...{ agent, environment, allow: [...HOSTS, 'api.example:8443'] },
    })),
    credentials: {
      's-client': client('staging', 'env:ONE'),
      'p-client': client('production', 'env:TWO'),
    },
    upstreams: Object.fromEntries(HOSTS.map((host) => [host, declared])),
  };
  place.put('belay.jsonc', JSON.stringify(config));
  upstream.answer = (request, reply, { url, host }) => {
    void textOf(request).then((body) => {
      const { authorization, 'content-type': type = '' } = request.headers;
      asked.push({ host, url, type, authorization, body });
      answer(request, reply, body);
    });
  };
}, 60_000);

afterEach(() => {
  asked.length = 0;
  tokens.length = 0;
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

function fresh(): string {
  const token = `tok-${randomBytes(16).toString('base64url')}`;
  tokens.push(token);
  return token;
}

/** Of one length, nearly one letter. */
function hostile(length: number): string {
  const mark = `b${randomBytes(4).toString('hex')}`;
  const token = mark.padStart(length >> 1, 'a').padEnd(length, 'a');
  tokens.push(token);
  return token;
}

/** By the path of the request. */
function answer(request: IncomingMessage, reply: ServerResponse, body: string): void {
  const path = request.url?.split('?')[0] ?? '';
  const json = (value: object, headers: Record<string, string> = {}): void => {
    reply.writeHead(200, { 'content-type': JSON_TYPE, ...headers }).end(JSON.stringify(value));
  };
  const pair = () => ({ access_token: fresh(), refresh_token: fresh(), expires_in: 3600 });
  if (path === '/oauth/form') {
    reply.setHeader('content-type', FORM);
    reply.end(new URLSearchParams({ access_token: fresh(), scope: 'all of it' }).toString());
  } else if (path === '/oauth/deep') {
    const token = fresh();
    json({ ok: true, team: { user: { accessToken: token } }, again: `it is ${token}` });
  } else if (path === '/oauth/hostile') json({ access_token: hostile(16_000) });
  else if (path === '/oauth/long') json({ access_token: hostile(16_385) });
  else if (path === '/oauth/two') {
    json({ access_token: hostile(16_000), refresh_token: hostile(16_000) });
  } else if (path === '/letters') reply.end('a'.repeat(2 ** 20));
  else if (path === '/oauth/registry/token') json({ token: fresh() });
  else if (path === '/oauth/word') json({ token: 'a word' });
  else if (path === '/oauth/own-key') json({ ticket: fresh() });
  else if (path === '/oauth/coded') {
    const bytes = gzipSync(JSON.stringify(pair()));
    reply.writeHead(200, { 'content-type': JSON_TYPE, 'content-encoding': 'gzip' }).end(bytes);
  } else if (path === '/oauth/large') json({ ...pair(), more: 'x'.repeat(70_000) });
  else if (path === '/oauth/garbage') reply.end(`your token is ${fresh()}`);
  else if (path === '/oauth/refused') {
    reply.writeHead(400, { 'content-type': JSON_TYPE }).end('{"error":"invalid_grant"}');
  } else if (path === '/oauth/xml') {
    reply.setHeader('content-type', 'application/xml; charset=utf-8');
    reply.end(`<OAuth><access_token>${fresh()}</access_token></OAuth>`);
  } else if (path === '/oauth/page') {
    reply.setHeader('content-type', 'text/html');
    reply.end(`access_token=${fresh()} `);
  } else if (path === '/oauth/prefixed') {
    reply.setHeader('content-type', JSON_TYPE);
    reply.end(`)]}'\n${JSON.stringify({ refresh_token: fresh() })}`);
  } else if (path === '/v2/prefixed/token') {
    reply.setHeader('content-type', JSON_TYPE);
    reply.end(`)]}'\n${JSON.stringify({ token: fresh() })}`);
  } else if (path === '/oauth/wide') {
    reply.setHeader('content-type', 'application/json; charset=utf-16');
    reply.end(Buffer.from(JSON.stringify({ access_token: fresh() }), 'utf16le'));
  } else if (path === '/login.html') {
    reply.setHeader('content-type', 'text/html');
    reply.end('<p>invalid_token: your tokens are of no use</p>');
  } else if (path === '/echo') json({ said: request.headers.authorization ?? '' });
  else if (path === '/token.html' || path === '/docs/token') {
    reply.setHeader('content-type', 'text/html');
    reply.end(`<p>"access_token": "example"</p>${'x'.repeat(70_000)}`);
  } else if (path === '/count_tokens') json({ input_tokens: 5, token: 'a word' });
  else if (path === '/talk') json({ input: { access_token: 'of an example' } });
  else if (path === '/v3/tokens') json({ tokens: [{ token: 'of a game' }] });
  else if (path === '/users') json({ name: 'n', token: 'a word', tokens: 3 });
  else if (/token|^\/(?:oauth|grant)/.test(path) || /gr(?:a|%61)nt/.test(body)) json(pair());
  else json({ ok: true });
}

async function both(attempts: readonly Attempt[]): Promise<Record<Agent, Got>> {
  const ask = async (agent: Agent) => {
    const { results, run } = await place.attempt(['--agent', agent], attempts, { env });
    return { out: results.map(({ value }) => value.out as string), run };
  };
  const [one, two] = await Promise.all([ask('one'), ask('two')]);
  return { one, two };
}
interface Got {
  readonly out: readonly string[];
  readonly run: RunResult;
}

const curl = (args: string): string => `curl -sS --max-time 10 ${args}`;
const shell = (script: string): Attempt => ['shell', script];
/** The placeholder of the variable, in a form. */
const ASK = `-d "grant_type=client_credentials&client_secret=$SECRET&scope=a%20b"`;
/** Sets T to the member of an answer. */
const member = (name: string, command: string): string =>
  `T=$(${command} | sed -E 's/.*"${name}":"([^"]*)".*/\\1/')`;
/** For the shell: the placeholder without its first letter. */
const WITHOUT_FIRST = '$'.concat('{SECRET#b}');
const WITH = '-H "authorization: Bearer $T"';

const secretOf = (agent: Agent) => (agent === 'one' ? env.ONE : env.TWO);
const names = (agent: Agent) => (agent === 'one' ? 's-client' : 'p-client');
const each = Object.keys(AGENTS) as Agent[];
const expectNoToken = (said: unknown): void => {
  for (const token of [...tokens, ...Object.values(env)]) {
    expect(JSON.stringify(said)).not.toContain(token);
  }
};
const outcomes = async (run: RunResult): Promise<readonly Outcome[]> =>
  (await place.entries(run.summary?.run)).filter(
    (entry): entry is typeof entry & Outcome => entry.type === 'outcome',
  );

verifies(
  ['vault.minted', 'vault.field'],
  'a token stays outside, its placeholder works where it was declared, and both can be renewed',
  async () => {
    const url = 'https://auth.example/oauth/token';
    const renew = `-d "grant_type=refresh_token&refresh_token=$T&client_secret=$SECRET"`;
    const got = await both([
      shell(curl(`${ASK} ${url}`)),
      shell(
        `${member('access_token', curl(`${ASK} ${url}`))}; ${curl(`${WITH} https://api.example/echo`)}`,
      ),
      shell(
        `${member('refresh_token', curl(`${ASK} ${url}`))}; ` +
          `${member('access_token', curl(`${renew} ${url}`))}; ${curl(`${WITH} https://api.example/echo`)}`,
      ),
    ]);
    expect(tokens).toHaveLength(16);
    for (const agent of each) {
      const { out, run } = got[agent];
      const answered = JSON.parse(out[0] ?? '');
      expect(answered.expires_in).toBe(3600);
      for (const key of ['access_token', 'refresh_token'] as const) {
        expect(answered[key]).toMatch(new RegExp(`^blp-${names(agent)}\\.${key}-[0-9a-f]{32}$`));
      }
      for (const said of out.slice(1)) expect(JSON.parse(said).said).toMatch(/^Bearer \*+$/);
      expectNoToken([out, run.stderr, await place.entries(run.summary?.run)]);
      const minted = (await outcomes(run)).flatMap((outcome) => outcome.minted ?? []);
      expect(new Set(minted)).toEqual(
        new Set([`${names(agent)}.access_token`, `${names(agent)}.refresh_token`]),
      );
    }
    const secrets = asked.filter(({ host }) => host === 'auth.example').map(({ body }) => body);
    expect(secrets).toHaveLength(8);
    for (const agent of each) {
      const form = `client_secret=${encodeURIComponent(secretOf(agent))}`;
      expect(secrets.filter((body) => body.includes(form))).toHaveLength(4);
    }
    // What else was in the body is as it was written.
    expect(secrets.filter((body) => body.endsWith('&scope=a%20b'))).toHaveLength(6);
    const used = asked.filter(({ host }) => host === 'api.example');
    expect(used).toHaveLength(4);
    for (const { authorization = '' } of used) expect(tokens).toContain(authorization.slice(7));
    const renewed = secrets.filter((body) => body.startsWith('grant_type=refresh_token'));
    for (const body of renewed) {
      expect(tokens).toContain(new URLSearchParams(body).get('refresh_token'));
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.minted',
  'a minted placeholder at another host, port, place or in another run is denied',
  async () => {
    const url = 'https://auth.example/oauth/token';
    const code = '-o /dev/null -w "%{http_code}"';
    const strays = [
      `${WITH} https://other.example/echo`,
      `${WITH} https://api.example:8443/echo`,
      `${WITH} https://auth.example/echo`,
      '-H "x-token: $T" https://api.example/echo',
      '"https://api.example/echo?access_token=$T"',
      '-d "token=$T" https://api.example/echo',
      '-d "refresh_token=$T" https://auth.example/oauth/token',
    ];
    const script = [
      member('access_token', curl(`${ASK} ${url}`)),
      ...strays.map((args) => curl(`${code} ${args}; echo`)),
    ].join('; ');
    const got = await both([
      shell(script),
      shell(`${member('access_token', curl(`${ASK} ${url}`))}; echo $T`),
    ]);
    for (const agent of each) {
      const { out, run } = got[agent];
      expect(out[0]?.trim().split('\n')).toEqual(strays.map(() => '403'));
      const refused = denials(await place.entries(run.summary?.run));
      expect(refused.map((one) => one.code)).toEqual(strays.map(() => 'credential.misplaced'));
    }
    asked.length = 0;
    // Each with what the other was given.
    const swapped = await Promise.all(
      each.map((agent) => {
        const other = got[agent === 'one' ? 'two' : 'one'].out[1]?.trim();
        const script = `T=${other}; ${curl(`${code} ${WITH} https://api.example/echo`)}`;
        return place.attempt(['--agent', agent], [shell(script)], { env });
      }),
    );
    for (const { results } of swapped) expect(results[0]?.value.out).toBe('403');
    expect(asked).toEqual([]);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.minted',
  'tokens are found in forms, under other names, below others and in a coding; what is unread is kept',
  async () => {
    const at = (path: string) =>
      shell(curl(`-w "%{http_code}" ${ASK} https://auth.example/oauth/${path}`));
    const got = await both(
      [
        'registry/token',
        'word',
        'form',
        'deep',
        'own-key',
        'coded',
        'refused',
        'large',
        'garbage',
      ].map(at),
    );
    for (const agent of each) {
      const { out, run } = got[agent];
      const [registry, word, form, deep, ownKey, coded, refused, ...kept] = out;
      const placeholder = `blp-${names(agent)}.access_token-[0-9a-f]{32}`;
      expect(registry).toMatch(new RegExp(`^{"token":"${placeholder}"}200$`));
      expect(word).toBe('{"token":"a word"}200');
      expect(form).toMatch(new RegExp(`^access_token=${placeholder}&scope=all\\+of\\+it200$`));
      expect(deep).toMatch(
        new RegExp(
          `^{"ok":true,"team":{"user":{"accessToken":"${placeholder}"}},"again":"it is \\*+"}200$`,
        ),
      );
      expect(ownKey).toMatch(new RegExp(`^{"ticket":"${placeholder}"}200$`));
      expect(coded).toMatch(new RegExp(`^{"access_token":"${placeholder}",.*}200$`));
      expect(refused).toBe('{"error":"invalid_grant"}400');
      for (const text of kept)
        expect(text).toMatch(/"code":"answer\.token".*403$|answer holds a token.*403$/s);
      expectNoToken(out);
      const withheld = (await outcomes(run)).filter(({ error }) => error?.code === 'answer.token');
      expect(withheld.map(({ error }) => error?.reason)).toEqual([
        'it is over 64 KiB, and could hold a token',
        'it cannot be read, and could hold a token',
      ]);
    }
    expect(tokens.length).toBeGreaterThanOrEqual(12);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.canary-cost',
  'tokens that an endpoint makes so that looking for them is slow make no other answer slow',
  async () => {
    const ask = curl(`${ASK} https://auth.example/oauth/hostile`);
    const letters = curl('https://api.example/letters');
    const got = await both([
      shell(`for i in $(seq 12); do ${ask} > /dev/null || exit 1; done; ${letters} | wc -c`),
      shell(`${member('access_token', ask)}; ${curl(`${WITH} https://api.example/echo`)}`),
      shell(curl(`-w "%{http_code}" ${ASK} https://auth.example/oauth/long`)),
      shell(curl(`${ASK} https://auth.example/oauth/own-key`)),
      shell(curl(`-w "%{http_code}" ${ASK} https://auth.example/oauth/two`)),
    ]);
    for (const agent of each) {
      const { out, run } = got[agent];
      expect(out[0]?.trim()).toBe(`${2 ** 20}`);
      // It is a token like any other, up to a length.
      expect(JSON.parse(out[1] ?? '').said).toBe(`Bearer ${'*'.repeat(16_000)}`);
      expect(out[2]).toMatch(/token.*403$/s);
      expect(out[3]).toMatch(/^{"ticket":"blp-/);
      expect(out[4]).toMatch(/token.*403$/s);
      const withheld = (await outcomes(run)).filter(({ error }) => error?.code === 'answer.token');
      expect(withheld.map(({ error }) => error?.reason)).toEqual([
        'its `access_token` cannot be held',
        'its `refresh_token` cannot be held',
      ]);
    }
    expect(tokens).toHaveLength(2 * 17);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'vault.undeclared-token',
  'an answer with a token that nobody declared is not passed on; ordinary answers are',
  async () => {
    const grant = '-d "grant_type=password&password=x"';
    const json = (body: string) => `-H 'content-type: ${JSON_TYPE}' -d '${body}'`;
    const kept = [
      `${grant} https://other.example/anything`,
      `-d "gr%61nt_type=password" https://other.example/anything`,
      `${json('{"grant_type":"x"}')} https://other.example/grant`,
      `${json('{"gr\\u0061nt_type":"x"}')} https://other.example/grant`,
      '"https://other.example/grant?grant_type=x"',
      '"https://other.example/grant?a=b&gr%61nt%5Ftype=x"',
      `-F grant_type=password https://other.example/grant`,
      `-d "pad=$(head -c 70000 /dev/zero | tr '\\0' x)&gr%61nt_type=password" https://other.example/grant`,
      '-X POST https://other.example/oauth/token',
      'https://other.example/token?service=registry',
      '-X POST https://other.example/v1/app/1/access_tokens',
      '--compressed -X POST https://other.example/oauth/coded/token',
      // At a host that has a credential, which this path is not bound to.
      `${ASK.replace('client_secret=$SECRET', 'a=b')} https://auth.example/token`,
      // Neither JSON nor a form, of any type; and too large to tell.
      `-H 'accept: application/xml' ${grant} https://other.example/oauth/xml`,
      `${grant} https://other.example/oauth/page`,
      `${grant} https://other.example/oauth/prefixed`,
      'https://other.example/v2/prefixed/token',
      `${grant} https://other.example/oauth/wide`,
      `${grant} https://other.example/token.html`,
    ];
    const fine = [
      'https://other.example/docs/token',
      `${grant} https://other.example/login.html`,
      '-X POST https://other.example/count_tokens',
      'https://other.example/users',
      `${grant} https://other.example/oauth/refused`,
      'https://other.example/v3/tokens',
      // A talk about tokens.
      `${json('{"say":"what is a grant_type, and gr\\u0061nt_type?"}')} https://other.example/talk`,
    ];
    const got = await both(
      [...kept, ...fine].map((args) => shell(curl(`-w "%{http_code}" ${args}`))),
    );
    for (const agent of each) {
      const { out, run } = got[agent];
      for (const text of out.slice(0, kept.length)) expect(text).toMatch(/token.*403$/s);
      const [page, login, count, users, refused, list, talk] = out.slice(kept.length);
      expect(list).toBe('{"tokens":[{"token":"of a game"}]}200');
      expect(talk).toBe('{"input":{"access_token":"of an example"}}200');
      expect(page).toMatch(/^<p>"access_token".*x200$/s);
      expect(login).toBe('<p>invalid_token: your tokens are of no use</p>200');
      expect(count).toBe('{"input_tokens":5,"token":"a word"}200');
      expect(users).toBe('{"name":"n","token":"a word","tokens":3}200');
      expect(refused).toBe('{"error":"invalid_grant"}400');
      expectNoToken(out);
      const withheld = (await outcomes(run)).filter(({ error }) => error?.code === 'answer.token');
      expect(withheld).toHaveLength(kept.length);
    }
    // One of them was a page of examples.
    expect(tokens.length).toBeGreaterThanOrEqual(2 * (kept.length - 1));
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.field',
  'a placeholder that is the whole of its member is replaced, and any other stops its call',
  async () => {
    const url = 'https://auth.example/oauth/refused';
    const code = '-o /dev/null -w "%{http_code}\\n"';
    const json = (body: string) =>
      `-H "content-type: ${JSON_TYPE}" -d "${body.replaceAll('"', '\\"')}"`;
    const good = [
      json('{ "client_secret" : "$SECRET", "n": 12345678901234567890 }'),
      '-d "a=%41&client_secret=$SECRET"',
    ];
    const bad = [
      json('{"client_secret":"x $SECRET"}'),
      json('{"client_secret":"$SECRET","b":"$SECRET"}'),
      json('{"client_secret":"$SECRET","Client_Secret":"x"}'),
      json('{"a":{"client_secret":"$SECRET"}}'),
      json('[{"client_secret":"$SECRET"}]'),
      json(`{"client_secret":"\\\\u0062${WITHOUT_FIRST}","b":"$SECRET"}`),
      '-d "client_secret=$SECRET&client_secret=x"',
      '-d "other=$SECRET"',
      '-H "content-type: text/plain" -d "client_secret=$SECRET"',
      '-H "x-secret: $SECRET"',
    ];
    const script = [...good, ...bad]
      .map((args) => curl(`${code} -X POST ${args} ${url}`))
      .join('; ');
    const got = await both([shell(script)]);
    for (const agent of each) {
      const lines = got[agent].out[0]?.trim().split('\n');
      expect(lines).toEqual([...good.map(() => '400'), ...bad.map(() => '403')]);
      const refused = denials(await place.entries(got[agent].run.summary?.run));
      expect(refused.map((one) => one.code)).toEqual(bad.map(() => 'credential.misplaced'));
      const sent = asked.map(({ body }) => body);
      const value = secretOf(agent);
      expect(sent).toContain(`{ "client_secret" : "${value}", "n": 12345678901234567890 }`);
      expect(sent).toContain(`a=%41&client_secret=${encodeURIComponent(value)}`);
    }
    expect(asked).toHaveLength(4);
  },
  { timeoutMs: 60_000 },
);
