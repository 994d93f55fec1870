// Claude Code and Codex with the login of their user and no key: signed in by a file on the host, which
// they never see. Their models are scripted and ask for the real token.

import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { beforeAll, expect } from 'vitest';
import { openPlace } from '../system/place.ts';
import { startUpstream, type Upstream } from '../system/upstreams.ts';
import { verifies } from '../verifies.ts';
import { AGENTS, installAgents } from './install.ts';
import { MODEL_HOST, speakAsModel } from './scripted-model.ts';
import { speakAsResponses } from './scripted-responses.ts';

const AUTH = 'platform.claude.com';
const COMMAND =
  'cat ~/.claude/.credentials.json > seen.json; echo written by a tool call > out.txt';

let bin: string;

beforeAll(() => {
  bin = installAgents(AGENTS);
}, 600_000);

const fresh = (kind: string): string => `sk-ant-${kind}01-${randomBytes(30).toString('base64url')}`;

/** Gives new tokens for the refresh token, and takes no others from then on. */
function signsIn(upstream: Upstream, tokens: { access: string; refresh: string }): void {
  const { answer } = upstream;
  upstream.answer = (request, reply, arrival) => {
    const { host, url } = arrival;
    if (host === AUTH && url === '/v1/oauth/token') {
      void textOf(request).then((body) => {
        const asked = JSON.parse(body) as { refresh_token: string };
        expect(asked.refresh_token).toBe(tokens.refresh);
        tokens.access = fresh('oat');
        tokens.refresh = fresh('ort');
        const { access: access_token, refresh: refresh_token } = tokens;
        const answered = { token_type: 'Bearer', expires_in: 28_800, access_token, refresh_token };
        reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answered));
      });
    } else if (
      url.startsWith('/v1/messages') &&
      request.headers.authorization !== `Bearer ${tokens.access}`
    ) {
      reply.writeHead(401, { 'content-type': 'application/json' });
      reply.end(
        '{"type":"error","error":{"type":"authentication_error","message":"no such token"}}',
      );
    } else answer(request, reply, arrival);
  };
}

verifies(
  'agent.login',
  'Claude Code, signed in on the host, works, is resumed after its token has ended, and sees no token',
  async () => {
    await using model = await startUpstream([MODEL_HOST, AUTH]);
    speakAsModel(model, [COMMAND]);
    const tokens = { access: fresh('oat'), refresh: fresh('ort') };
    const all = [tokens.access, tokens.refresh];
    signsIn(model, tokens);
    await using place = await openPlace({
      agent: 'claude',
      allow: ['model:anthropic'],
      upstreams: { [MODEL_HOST]: model, [AUTH]: model },
    });
    const { session, workdir } = place;
    const path = join(session.env.HOME as string, '.claude/.credentials.json');
    mkdirSync(dirname(path));
    const signIn = (expiresAt: number): void => {
      const { access: accessToken, refresh: refreshToken } = tokens;
      const kept = { scopes: ['user:inference', 'user:profile'], subscriptionType: 'max' };
      const claudeAiOauth = { accessToken, refreshToken, expiresAt, ...kept };
      writeFileSync(path, JSON.stringify({ claudeAiOauth }), { mode: 0o600 });
      chmodSync(path, 0o600);
    };
    const env = { PATH: `${bin}:${session.env.PATH}` };
    const claude = async (...args: string[]) => {
      const command = ['claude', ...args, '--dangerously-skip-permissions'];
      const run = await place.run(['--agent', 'claude'], command, { env, timeoutMs: 120_000 });
      expect(run.status, run.stdout + run.stderr).toBe(0);
      return run;
    };

    signIn(Date.now() + 3_600_000);
    expect((await claude('-p', 'Write out.txt.')).stdout).toContain('done after 1 tool calls');
    expect(readFileSync(join(workdir, 'out.txt'), 'utf8')).toBe('written by a tool call\n');
    expect(model.arrivals.filter(({ host }) => host === AUTH)).toEqual([]);

    signIn(Date.now() - 3_600_000);
    const resumed = await claude('--continue', '-p', 'And once more.');
    all.push(tokens.access, tokens.refresh);
    expect(resumed.stdout).toContain('done after 1 tool calls');
    expect(model.arrivals.filter(({ host }) => host === AUTH)).toHaveLength(1);
    const written = JSON.parse(readFileSync(path, 'utf8')).claudeAiOauth;
    expect(written).toMatchObject({ accessToken: tokens.access, refreshToken: tokens.refresh });

    expect(readFileSync(join(workdir, 'seen.json'), 'utf8')).toContain('blp-_login-claude');
    for (const token of all) {
      const search = ['grep', '-rla', token, workdir, session.home];
      expect((await session.exec(search)).stdout, 'files with a token').toBe('');
    }
  },
  { timeoutMs: 180_000 },
);

verifies(
  'agent.login',
  'Codex, signed in on the host, reads placeholders as its tokens and works with them',
  async () => {
    const host = 'chatgpt.com';
    await using model = await startUpstream([host]);
    speakAsResponses(
      model,
      'cat ~/.codex/auth.json > seen.json; echo written by a tool call > out.txt',
    );
    // Codex asks first which host its workspace is at.
    const { answer } = model;
    model.answer = (request, reply, arrival) => {
      if (!arrival.url.endsWith('/accounts/check')) return answer(request, reply, arrival);
      const workspace = {
        workspace_backend_origin: `https://${host}`,
        account_routing_override: 'NO_CONSTRAINT',
      };
      const account = {
        ...{ id: 'account-1', account_id: 'account-1', name: 'me', structure: 'personal' },
        ...{
          plan_type: 'plus',
          is_deactivated: false,
          can_access_with_session: true,
          ...workspace,
        },
      };
      const checked = { accounts: [account], account_ordering: ['account-1'] };
      reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(checked));
    };
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const jwt = () => {
      const auth = { chatgpt_account_id: 'account-1', chatgpt_plan_type: 'plus' };
      const exp = Math.floor(Date.now() / 1000) + 3600;
      const claims = { exp, email: 'me@example.com', 'https://api.openai.com/auth': auth };
      return `${part({ alg: 'RS256' })}.${part(claims)}.${randomBytes(32).toString('base64url')}`;
    };
    const tokens = { id_token: jwt(), access_token: jwt(), refresh_token: fresh('rt') };
    await using place = await openPlace({
      agent: 'codex',
      allow: ['model:chatgpt'],
      upstreams: { [host]: model },
    });
    const { session, workdir } = place;
    const path = join(session.env.HOME as string, '.codex/auth.json');
    mkdirSync(dirname(path));
    const signedIn = {
      ...{ auth_mode: 'chatgpt', OPENAI_API_KEY: null, last_refresh: new Date().toISOString() },
      tokens: { ...tokens, account_id: 'account-1' },
    };
    writeFileSync(path, JSON.stringify(signedIn), { mode: 0o600 });
    const env = { PATH: `${bin}:${session.env.PATH}` };
    const flags = ['--skip-git-repo-check', '--sandbox', 'danger-full-access', '-m', 'gpt-5'];
    const command = ['codex', 'exec', ...flags, 'Write out.txt.'];
    const run = await place.run(['--agent', 'codex'], command, { env, timeoutMs: 120_000 });
    expect(run.status, run.stdout + run.stderr).toBe(0);
    expect(readFileSync(join(workdir, 'out.txt'), 'utf8')).toBe('written by a tool call\n');
    const inference = model.arrivals.filter(({ method, url }) => {
      return method === 'POST' && url.includes('/codex/responses');
    });
    expect(inference.length).toBeGreaterThanOrEqual(2);
    for (const { headers } of inference) {
      expect(headers.authorization).toBe(`Bearer ${tokens.access_token}`);
      expect(headers['chatgpt-account-id']).toBe('account-1');
    }
    expect(readFileSync(join(workdir, 'seen.json'), 'utf8')).toContain('blp-_login-codex');
    for (const token of Object.values(tokens)) {
      const search = ['grep', '-rla', token, workdir, session.home];
      expect((await session.exec(search)).stdout, 'files with a token').toBe('');
    }
  },
  { timeoutMs: 180_000 },
);
