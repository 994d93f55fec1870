// Logins that agents hold already: the user's file stays outside, and two agents in two environments that
// share it work with placeholders. The agents are scripts that do with their files what Claude Code and
// Codex do; the hosts are ours, and spend each refresh token once.

import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { denials, eventually, openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const API = 'api.anthropic.com';
const AUTH = 'platform.claude.com';
const CHAT = 'chatgpt.com';
const CHAT_AUTH = 'auth.openai.com';
const HOSTS = [API, AUTH, CHAT, CHAT_AUTH];
const AGENTS = { one: 'staging', two: 'production' } as const;
type Agent = keyof typeof AGENTS;
const each = Object.keys(AGENTS) as Agent[];
const HOUR_MS = 3_600_000;
/** Of another login than the user's, which an agent would put in its place. */
const CODE = 'code-of-another-login';

let upstream: Upstream;
let place: Place;
let userHome: string;
let bin: string;
/** What the hosts take, and what they were asked with. */
let access = new Set<string>();
let refresh = '';
const secrets: string[] = [];
const renewals: string[] = [];
const used: string[] = [];
let onRenewal = async (_reply: ServerResponse): Promise<void> => {};

beforeAll(async () => {
  upstream = await startUpstream(HOSTS);
  place = await openPlace();
  const { session, workdir } = place;
  userHome = session.env.HOME as string;
  bin = join(workdir, 'bin');
  mkdirSync(bin);
  for (const name of ['claude', 'codex']) {
    writeFileSync(join(bin, name), '#!/bin/sh\nexec sh -c "$1"\n');
    chmodSync(join(bin, name), 0o755);
  }
  place.put('ca.pem', upstream.caPem);
  configure();
  upstream.answer = (request, reply, { host, url }) => {
    const json = (status: number, value: object): void => {
      reply.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    };
    void textOf(request).then(async (body) => {
      if (url.endsWith('/oauth/token')) {
        const asked = JSON.parse(body) as { refresh_token?: string; code?: string };
        renewals.push(asked.code ?? asked.refresh_token ?? '');
        if (asked.code === CODE) return json(200, { ...pair(), expires_in: 28_800 });
        if (asked.refresh_token !== refresh) return json(400, { error: 'invalid_grant' });
        const fresh = pair(host === CHAT_AUTH);
        await onRenewal(reply);
        json(200, { token_type: 'Bearer', expires_in: 28_800, scope: 'user:inference', ...fresh });
      } else {
        const bearer = request.headers.authorization?.replace('Bearer ', '') ?? '';
        used.push(bearer);
        if (access.has(bearer)) json(200, { ok: true, said: bearer });
        else json(401, { type: 'error', error: { type: 'authentication_error' } });
      }
    });
  };
}, 60_000);

beforeEach(() => {
  access = new Set();
  onRenewal = async () => {};
});

afterEach(() => {
  for (const list of [secrets, renewals, used]) list.length = 0;
  for (const name of ['.claude', '.codex']) {
    rmSync(join(userHome, name), { recursive: true, force: true });
  }
  rmSync(join(place.workdir, 'go'), { force: true });
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

interface Parts {
  readonly allow?: readonly string[];
  readonly credentials?: object;
  readonly caps?: object;
}

function configure(parts: Parts = {}): void {
  const { allow = ['model:anthropic', 'model:chatgpt'], credentials = {}, caps = {} } = parts;
  const declared = { address: upstream.address, tls: { ca: './ca.pem' } };
  const config = {
    version: 1,
    agents: { one: { environment: 'staging' }, two: { environment: 'production' } },
    environments: { staging: {}, production: {} },
    grants: Object.entries(AGENTS).map(([agent, environment]) => {
      return { agent, environment, allow, ...(agent === 'one' ? { caps } : {}) };
    }),
    credentials,
    upstreams: Object.fromEntries(HOSTS.map((host) => [host, declared])),
  };
  place.put('belay.jsonc', JSON.stringify(config));
}

/** A new pair of tokens, which the hosts take from now on. */
function pair(asJwt = false): { access_token: string; refresh_token: string; id_token?: string } {
  const opaque = (kind: string): string => `sk-ant-${kind}01-${randomBytes(20).toString('hex')}`;
  const accessToken = asJwt ? jwt(Date.now() + HOUR_MS) : opaque('oat');
  const refreshToken = opaque('ort');
  access.add(accessToken);
  refresh = refreshToken;
  secrets.push(accessToken, refreshToken);
  const idToken = asJwt ? { id_token: jwt(Date.now() + HOUR_MS) } : {};
  return { access_token: accessToken, refresh_token: refreshToken, ...idToken };
}

function jwt(endMs: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = {
    exp: Math.floor(endMs / 1000),
    email: 'me@example.com',
    session_secret: 'not for the agent',
    'https://api.openai.com/auth': { chatgpt_account_id: 'account-1', chatgpt_plan_type: 'plus' },
  };
  const token = `${part({ alg: 'RS256' })}.${part(claims)}.${randomBytes(32).toString('base64url')}`;
  secrets.push(token);
  return token;
}

const file = () => join(userHome, '.claude/.credentials.json');

/** As Claude Code writes it; with tokens of other servers in it. */
function signIn(inMs: number, tokens = pair()): void {
  mkdirSync(dirname(file()), { recursive: true });
  const claudeAiOauth = {
    accessToken: tokens.access_token,
    refreshToken: tokens.refresh_token,
    expiresAt: Date.now() + inMs,
    scopes: ['user:inference', 'user:profile'],
    subscriptionType: 'max',
  };
  const mcpOAuth = { server: { accessToken: 'mcp-token-of-another' } };
  writeFileSync(file(), JSON.stringify({ claudeAiOauth, mcpOAuth }), { mode: 0o600 });
  secrets.push('mcp-token-of-another');
}

interface LoginFile {
  readonly claudeAiOauth: { readonly [key: string]: unknown };
  readonly mcpOAuth?: unknown;
}
const written = (): LoginFile => JSON.parse(readFileSync(file(), 'utf8')) as LoginFile;

const ASK =
  `A=$(sed -E 's/.*"accessToken": ?"([^"]*)".*/\\1/;t;d' ~/.claude/.credentials.json); ` +
  `curl -sS --max-time 60 -w '%{http_code}\\n' -H "authorization: Bearer $A" -d '{}' https://${API}/v1/messages`;
/** Until the test says go. */
const WAIT = 'while ! [ -e go ]; do sleep 0.05; done';

const how = () => ({ env: { PATH: `${bin}:${place.session.env.PATH}` }, timeoutMs: 60_000 });
const run = (agent: Agent, script: string, args: readonly string[] = []) =>
  place.run(['--agent', agent, ...args], ['claude', script], how());
const both = (script: string) => Promise.all(each.map((agent) => run(agent, script)));

/** In the state of the installation, with the homes of its agents, and in all that was said. */
async function expectNoSecret(...said: readonly string[]): Promise<void> {
  const files = globSync('**', { cwd: place.session.home, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
  expect(files.length).toBeGreaterThan(5);
  const entries = JSON.stringify(await place.entries());
  for (const text of [...files, entries, ...said]) {
    for (const secret of secrets) expect(text.includes(secret), secret.slice(0, 12)).toBe(false);
  }
}

verifies(
  'login.placeholder',
  'a signed-in agent works with a placeholder file, and its tokens reach their host alone',
  async () => {
    signIn(HOUR_MS);
    const show = 'cat ~/.claude/.credentials.json';
    const runs = await both(`${show}; echo end-of-file; ${ASK}; env; cat /proc/*/environ`);
    const real = written().claudeAiOauth;
    expect(used).toEqual([real.accessToken, real.accessToken]);
    expect(renewals).toEqual([]);
    for (const { status, stdout, stderr, summary } of runs) {
      expect(status, stderr).toBe(0);
      expect(stderr).toContain('the agent holds placeholders');
      const [text = '', rest = ''] = stdout.split('end-of-file\n');
      const shown = JSON.parse(text) as LoginFile;
      expect(Object.keys(shown)).toEqual(['claudeAiOauth']);
      expect(Object.keys(shown.claudeAiOauth).sort()).toEqual(Object.keys(real).sort());
      const { accessToken, refreshToken, expiresAt, scopes } = shown.claudeAiOauth;
      expect(accessToken).toMatch(/^blp-_login-claude-[0-9a-f]{32}$/);
      expect(refreshToken).toMatch(/^blp-_login-claude-refresh_token-[0-9a-f]{32}$/);
      expect(expiresAt).toBeGreaterThan(Date.now() + 1000 * HOUR_MS);
      expect(scopes).toEqual(real.scopes);
      expect(rest).toMatch(/^{"ok":true,"said":"\*+"}200$/m);
      const entries = await place.entries(summary?.run);
      expect(entries).toContainEqual(
        expect.objectContaining({ type: 'run.open', login: 'claude' }),
      );
      await expectNoSecret(stdout, stderr);
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  'login.placeholder',
  'tokens that an agent reads as JWTs have placeholders with the claims that it needs, and no others',
  async () => {
    const { access_token, refresh_token, id_token } = pair(true);
    const tokens = { access_token, refresh_token, id_token, account_id: 'account-1' };
    const path = join(userHome, '.codex/auth.json');
    mkdirSync(dirname(path));
    const kept = { OPENAI_API_KEY: null, last_refresh: '2026-01-01T00:00:00Z' };
    writeFileSync(path, JSON.stringify({ ...kept, tokens }, null, 2), { mode: 0o600 });
    const ask =
      `A=$(sed -E 's/.*"access_token": ?"([^"]*)".*/\\1/;t;d' ~/.codex/auth.json); ` +
      `curl -sS -H "authorization: Bearer $A" -d '{}' https://${CHAT}/backend-api/codex/responses`;
    const codex = (agent: Agent) =>
      place.run(
        ['--agent', agent],
        ['codex', `cat ~/.codex/auth.json; echo end-of-file; ${ask}; ${ask}`],
        how(),
      );
    for (const { stdout, stderr } of await Promise.all(each.map(codex))) {
      const [text = '', rest = ''] = stdout.split('end-of-file\n');
      const shown = JSON.parse(text) as { tokens: Record<string, string>; last_refresh: string };
      expect(Object.keys(shown.tokens).sort()).toEqual(Object.keys(tokens).sort());
      expect(Date.parse(shown.last_refresh)).toBeGreaterThan(Date.now() - 60_000);
      for (const key of ['access_token', 'id_token']) {
        const [, claims = '', signature = ''] = shown.tokens[key]?.split('.') ?? [];
        const read = JSON.parse(Buffer.from(claims, 'base64url').toString());
        expect(read.email).toBe('me@example.com');
        expect(read['https://api.openai.com/auth'].chatgpt_account_id).toBe('account-1');
        expect(read).not.toHaveProperty('session_secret');
        expect(signature).toMatch(/^blp-_login-codex[a-z_-]*-[0-9a-f]{32}$/);
      }
      expect(rest.match(/"ok":true/g)).toHaveLength(2);
      await expectNoSecret(stdout, stderr);
    }
    expect(used).toEqual([access_token, access_token, access_token, access_token]);

    // About to end, as its claim says.
    used.length = 0;
    const ending = jwt(Date.now() + 20_000);
    writeFileSync(path, JSON.stringify({ ...kept, tokens: { ...tokens, access_token: ending } }));
    await Promise.all(each.map(codex));
    expect(renewals).toEqual([refresh_token]);
    const after = JSON.parse(readFileSync(path, 'utf8'));
    expect(after.OPENAI_API_KEY).toBe(null);
    expect(after.tokens).toMatchObject({ refresh_token: refresh, account_id: 'account-1' });
    expect(after.tokens.id_token).not.toBe(id_token);
    expect(Date.parse(after.last_refresh)).toBeGreaterThan(Date.now() - 60_000);
    expect(used).toEqual(Array(4).fill(after.tokens.access_token));
  },
  { timeoutMs: 60_000 },
);

verifies(
  'login.renewed',
  'a login that has ended is renewed once for two runs, on the record, and the file is written back',
  async () => {
    signIn(-HOUR_MS);
    access.clear();
    chmodSync(file(), 0o640);
    const before = written();
    onRenewal = async () => void (await new Promise((resolve) => setTimeout(resolve, 300)));
    const scripts = `${WAIT}; ${ASK}; ${ASK}`;
    const ended = both(scripts);
    await eventually('two open runs', async () => {
      const { runs } = await place.status();
      return runs.length === 2 && runs.every(({ state }) => state !== 'starting')
        ? true
        : undefined;
    });
    place.put('go', '');
    const runs = await ended;
    for (const { stdout, stderr } of runs) {
      expect(stdout.match(/"ok":true.*200/g), stderr).toHaveLength(2);
      await expectNoSecret(stdout, stderr);
    }
    expect(renewals).toEqual([before.claudeAiOauth.refreshToken]);
    const after = written();
    expect(after.claudeAiOauth).toMatchObject({
      ...before.claudeAiOauth,
      accessToken: [...access].at(-1),
      refreshToken: refresh,
      expiresAt: expect.any(Number),
    });
    expect(after.claudeAiOauth.expiresAt).toBeGreaterThan(Date.now() + 7 * HOUR_MS);
    expect(after.mcpOAuth).toEqual(before.mcpOAuth);
    expect(statSync(file()).mode & 0o777).toBe(0o640);
    expect(readdirSync(dirname(file()))).toEqual(['.credentials.json']);
    expect(used).toEqual(Array(4).fill(after.claudeAiOauth.accessToken));

    const all = (await Promise.all(runs.map(({ summary }) => place.entries(summary?.run)))).flat();
    const intent = all.find((entry) => entry.type === 'intent' && entry.host === AUTH);
    expect(intent).toMatchObject({
      ...{ method: 'POST', path: '/v1/oauth/token', policies: ['login:claude'] },
      ...{ credentials: ['_login-claude-refresh_token'] },
    });
    const call = intent?.type === 'intent' ? intent.call : '';
    const outcome = all.find((entry) => entry.type === 'outcome' && entry.call === call);
    expect(outcome).toMatchObject({
      ...{ status: 200, minted: ['_login-claude', '_login-claude-refresh_token'] },
    });
    expect((await place.session.belay(['log', 'verify'])).status).toBe(0);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'login.renewed',
  'a token that its host does not take any more is renewed for the next call, also in shadow mode',
  async () => {
    for (const args of [[], ['--shadow']]) {
      signIn(HOUR_MS);
      access.clear();
      const { stdout } = await run('one', `${ASK}; ${ASK}; ${ASK}`, args);
      expect(stdout.match(/\d{3}$/gm)).toEqual(['401', '200', '200']);
      expect(written().claudeAiOauth.refreshToken).toBe(refresh);
    }
    expect(renewals).toHaveLength(2);
    // A host that takes nothing is not asked again and again.
    signIn(HOUR_MS);
    onRenewal = async () => access.clear();
    const { stdout } = await run('one', Array(6).fill(ASK).join('; '));
    expect(stdout.match(/\d{3}$/gm)).toEqual(Array(6).fill('200'));
    access.clear();
    renewals.length = 0;
    await run('one', Array(6).fill(`${ASK}`).join('; '));
    expect(renewals.length).toBeLessThanOrEqual(1);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'login.renewed',
  'a run that is paused keeps no other from renewing the login',
  async () => {
    configure({ caps: { denialsPerMinute: 3 } });
    signIn(-HOUR_MS);
    access.clear();
    const refused = 'for i in 1 2 3 4 5 6 7 8; do curl -sS https://nowhere.example & done; sleep 2';
    const stormy = place.start(['--agent', 'one'], ['claude', `${refused}; ${ASK}`], how());
    await eventually('the pause', () => (/paused for/.test(stormy.stderr()) ? true : undefined));
    // It asks now, and waits.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    configure();
    const other = await run('two', ASK);
    stormy.child.kill('SIGTERM');
    await stormy.ended;
    expect(other.stdout, other.stderr).toMatch(/"ok":true.*200/);
    const renewed = (await place.entries(other.summary?.run)).filter(
      (entry) => entry.type === 'intent' && entry.host === AUTH,
    );
    expect(renewed).toHaveLength(1);
    const entries = await place.entries();
    const paused = entries.findLast(({ type }) => type === 'stop.set');
    const lifted = entries.find((entry) => {
      return entry.type === 'stop.lifted' && entry.run === paused?.run;
    });
    expect(renewed[0]?.ts).toBeLessThan(lifted?.ts ?? Infinity);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'login.kept',
  'what the user’s own agent renewed meanwhile is taken over, and nothing is spent',
  async () => {
    signIn(-HOUR_MS);
    const ended = both(`${WAIT}; ${ASK}`);
    await eventually('two open runs', async () => {
      const { runs } = await place.status();
      return runs.length === 2 && runs.every(({ state }) => state !== 'starting')
        ? true
        : undefined;
    });
    signIn(HOUR_MS);
    const { accessToken } = written().claudeAiOauth;
    place.put('go', '');
    for (const { stdout } of await ended) expect(stdout).toMatch(/"ok":true.*200/);
    expect(used).toEqual([accessToken, accessToken]);
    expect(renewals).toEqual([]);
    expect(written().claudeAiOauth.accessToken).toBe(accessToken);

    // While the endpoint answers, the user signs in anew: the file stays theirs.
    signIn(-HOUR_MS);
    let theirs = written();
    onRenewal = async () => {
      signIn(HOUR_MS, { access_token: 'another-access-token', refresh_token: 'another-refresh' });
      theirs = written();
    };
    expect((await run('one', ASK)).stdout).toMatch(/"ok":true.*200/);
    expect(renewals).toHaveLength(1);
    expect(written()).toEqual(theirs);
    expect(theirs.claudeAiOauth.accessToken).toBe('another-access-token');
  },
  { timeoutMs: 60_000 },
);

verifies(
  'login.kept',
  'a launcher or a daemon that dies between the answer and the file loses no other run its login',
  async () => {
    signIn(-HOUR_MS);
    const old = written().claudeAiOauth;
    // The launcher dies while the endpoint answers: the next run brings the spent token, and has the new one.
    const doomed = place.start(['--agent', 'one'], ['claude', ASK], how());
    onRenewal = async () => {
      doomed.child.kill('SIGKILL');
      await doomed.ended;
    };
    await doomed.ended;
    await eventually('the renewal', () => (renewals.length > 0 ? true : undefined));
    onRenewal = async () => {};
    await eventually('the end of its run', async () => {
      const entries = await place.entries();
      const doomedRun = entries.findLast(({ type }) => type === 'run.open')?.run;
      return entries.find(({ type, run: id }) => type === 'run.close' && id === doomedRun);
    });
    expect(written().claudeAiOauth).toEqual(old);
    for (const { stdout, stderr } of await both(ASK))
      expect(stdout, stderr).toMatch(/"ok":true.*200/);
    expect(renewals).toHaveLength(1);
    expect(written().claudeAiOauth.refreshToken).toBe(refresh);

    // The daemon dies while the endpoint answers: the file is the old one or the new one, whole.
    signIn(-HOUR_MS);
    const { pid } = await place.status();
    const last = written();
    onRenewal = async () => void execFileSync('kill', ['-9', `${pid}`]);
    const orphan = place.start(['--agent', 'one'], ['claude', ASK], how());
    await eventually('the word of the launcher', () =>
      /the daemon died/.test(orphan.stderr()) ? true : undefined,
    );
    orphan.child.kill('SIGINT');
    expect((await orphan.ended).status).toBe(5);
    expect(written()).toEqual(last);
    expect(readdirSync(dirname(file()))).toEqual(['.credentials.json']);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'login.kept',
  'what is renewed while its run ends is written by its launcher, who is heard to the end',
  async () => {
    signIn(-HOUR_MS);
    onRenewal = async () => void (await new Promise((resolve) => setTimeout(resolve, 2_000)));
    const { summary, status, stderr } = await run('one', `(${ASK}) & sleep 1`);
    expect(status, stderr).toBe(0);
    expect(renewals).toHaveLength(1);
    expect(written().claudeAiOauth.refreshToken).toBe(refresh);
    const entries = await place.entries(summary?.run);
    const renewal = entries.find((entry) => entry.type === 'intent' && entry.host === AUTH);
    const call = renewal?.type === 'intent' ? renewal.call : '';
    const answered = entries.find((entry) => entry.type === 'outcome' && entry.call === call);
    const closed = entries.find(({ type }) => type === 'run.close');
    // Nobody waits for an answer that is refused.
    expect((closed?.ts ?? 0) - (answered?.ts ?? 0)).toBeLessThan(3_000);
    expect(closed?.ts).toBeGreaterThanOrEqual(answered?.ts ?? Infinity);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'login.granted',
  'a login is not read for a run that may not use it, and none is renewed or exchanged by an agent',
  async () => {
    mkdirSync(dirname(file()), { recursive: true });
    writeFileSync(file(), 'broken, and nobody looks');
    const look = 'ls ~/.claude/.credentials.json 2>&1; true';
    configure({ allow: ['npm-read'] });
    const ungranted = await place.run(['--agent', 'one'], ['claude', look], how());
    expect(ungranted.status, ungranted.stderr).toBe(0);
    configure({
      credentials: {
        own: {
          ...{ from: 'env:OWN', environment: 'staging', host: API, methods: ['POST'] },
          ...{ paths: ['/v1/**'], header: 'x-api-key' },
        },
      },
    });
    const own = await place.run(['--agent', 'one'], ['claude', look], {
      env: { ...how().env, OWN: 'a-key-of-its-own' },
    });
    expect(own.status, own.stderr).toBe(0);
    configure();
    const another = await place.run(['--agent', 'one'], ['sh', '-c', look], how());
    expect(another.status, another.stderr).toBe(0);

    signIn(HOUR_MS);
    const before = written();
    const read = `R=$(sed -E 's/.*"refreshToken": ?"([^"]*)".*/\\1/;t;d' ~/.claude/.credentials.json)`;
    const post = (body: string): string =>
      `${read}; curl -sS -w '%{http_code}\\n' -H 'content-type: application/json' ` +
      `-d '${body}' https://${AUTH}/v1/oauth/token`;
    const renew = post(`{"grant_type":"refresh_token","refresh_token":"'$R'"}`);
    const exchange = (more: string): string =>
      post(`{"grant_type":"authorization_code","code":"${CODE}"${more}}`);
    const denied = await run('one', renew);
    expect(denied.stdout).toMatch(/403$/m);
    expect(denials(await place.entries(denied.summary?.run))[0]?.code).toBe('policy.no-permit');
    expect(renewals).toEqual([]);
    // The endpoint may be asked: the user's token is not put in, and no other login taken in its place.
    const swap = exchange(`,"refresh_token":"'$R'"`);
    const allowed = await run('one', `${renew}; ${swap}; ${ASK}`, ['--allow', AUTH]);
    expect(renewals).toEqual([]);
    expect(written()).toEqual(before);
    expect(allowed.stdout.match(/\d{3}$/gm)).toEqual(['403', '403', '200']);
    for (const { code, reason } of denials(await place.entries(allowed.summary?.run))) {
      expect(code).toBe('credential.misplaced');
      expect(reason).toMatch(
        /of `_login-claude-refresh_token`, which only the gateway uses, in the body/,
      );
    }
    // Without it, a call like any other: what it is answered with is a token that nobody declared.
    const alone = await run('one', `${exchange('')}; ${ASK}`, ['--allow', AUTH]);
    expect(alone.stdout.match(/\d{3}$/gm)).toEqual(['403', '200']);
    expect(renewals).toEqual([CODE]);
    const outcomes = (await place.entries(alone.summary?.run)).filter(
      (entry) => entry.type === 'outcome',
    );
    expect(outcomes[0]).toMatchObject({ error: { code: 'answer.token' } });
    expect(written()).toEqual(before);
    expect(used).toEqual([before.claudeAiOauth.accessToken, before.claudeAiOauth.accessToken]);
    await expectNoSecret(allowed.stdout, allowed.stderr, alone.stdout);
    // At a host of its own choice a placeholder of a login is worth nothing, and is not sent.
    const stray = await run(
      'one',
      ASK.replace(API, CHAT).replace('/v1/messages', '/backend-api/codex/responses'),
    );
    expect(denials(await place.entries(stray.summary?.run))[0]?.code).toBe('credential.misplaced');
  },
  { timeoutMs: 60_000 },
);

verifies(
  ['login.granted', 'identity.attenuate'],
  'a sub-run uses the login that its parent uses, and none that its parent does not',
  async () => {
    signIn(HOUR_MS);
    const parents = [
      [['sleep', '60'], /it does not use the login in `.*\.credentials\.json`/, 2],
      [['claude', 'sleep 60'], /signed in with/, 0],
    ] as const;
    for (const [command, said, status] of parents) {
      const parent = place.start(['--agent', 'one'], command, how());
      const above = await place.openRun();
      const below = await run('one', ASK, ['--parent', above]);
      expect(below.stderr).toMatch(said);
      expect(below.status).toBe(status);
      await place.session.belay(['kill', above]);
      await parent.ended;
    }
    expect(used).toHaveLength(1);
    expect(renewals).toEqual([]);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'login.bad-file',
  'a file that is broken, no file, too large or a link is one clear line with a hint',
  async () => {
    signIn(HOUR_MS);
    const good = readFileSync(file(), 'utf8');
    const bad: readonly (readonly [make: () => void, says: RegExp])[] = [
      [() => writeFileSync(file(), good.slice(0, 40)), /it is not a JSON object/],
      [() => writeFileSync(file(), '["a"]'), /it is not a JSON object/],
      [() => writeFileSync(file(), `${good}${' '.repeat(70_000)}`), /it is larger than 64 KiB/],
      [() => symlinkSync('/etc/hostname', file()), /it is a symbolic link/],
      [() => void execFileSync('mkfifo', [file()]), /it is not a regular file/],
      [() => mkdirSync(file()), /it is not a regular file/],
      [() => symlinkSync('nowhere', file()), /it is a symbolic link/],
    ];
    for (const [make, says] of bad) {
      rmSync(file(), { recursive: true });
      make();
      const { status, stdout, stderr } = await run('one', 'true');
      expect(status, stderr).toBe(2);
      expect(stderr).toMatch(says);
      expect(stderr.trimEnd().split('\n')).toEqual([
        expect.stringMatching(
          /^belay: error: the login in `.*\.credentials\.json` cannot be used: /,
        ),
        expect.stringMatching(/^belay: hint: /),
      ]);
      for (const secret of secrets) expect(stderr + stdout).not.toContain(secret.slice(0, 20));
    }
    // It was good when the run began: the agent goes on, and its user is told at the end.
    rmSync(file(), { recursive: true });
    signIn(-HOUR_MS);
    onRenewal = async () => {
      rmSync(file());
      mkdirSync(file());
    };
    const late = await run('one', ASK);
    expect(late.stdout).toMatch(/"ok":true.*200/);
    expect(late.stderr).toMatch(
      /warning: the login was not written: .*it is not a regular file; the daemon holds it/,
    );

    // What the agent is shown whole is no place for a login.
    rmSync(file(), { recursive: true });
    signIn(HOUR_MS);
    for (const opened of [
      ['--allow-read', dirname(file())],
      ['--allow-read', file()],
      ['--allow-write', file()],
    ]) {
      const shown = await run('one', 'true', opened);
      expect(shown.stderr).toMatch(/error: the login in .* is open to the agent\nbelay: hint: /);
      expect(shown.status).toBe(2);
    }
    // What lies beside it is none.
    writeFileSync(join(dirname(file()), 'notes'), '');
    const notes = join(dirname(file()), 'notes');
    const twin = await run('one', 'true', ['--allow-read', notes]);
    expect(twin.status, twin.stderr).toBe(0);
    if (process.getuid?.() !== 0) {
      chmodSync(file(), 0);
      expect((await run('one', 'true')).stderr).toMatch(/cannot be used: permission denied/);
    }
    // Signed out, or never signed in: no login, and no complaint.
    rmSync(file());
    for (const text of [
      undefined,
      '{}',
      '{"claudeAiOauth":{"accessToken":"","refreshToken":""}}',
    ]) {
      if (text !== undefined) writeFileSync(file(), text);
      const { status, stderr } = await run('one', 'true');
      expect(status, stderr).toBe(0);
      expect(stderr).not.toContain('signed in');
    }
  },
  { timeoutMs: 60_000 },
);
