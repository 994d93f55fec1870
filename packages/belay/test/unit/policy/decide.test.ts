import { expect } from 'vitest';
import { parseBundle } from '../../../src/config/bundle.ts';
import { defaultConfig } from '../../../src/config/parse.ts';
import { selectGrant } from '../../../src/config/select.ts';
import type { Push } from '../../../src/core/push.ts';
import type { CallFacts } from '../../../src/policy/classify.ts';
import { loadEngine } from '../../../src/policy/engine.ts';
import { policyForRun } from '../../../src/policy/for-run.ts';
import { cedarString } from '../../../src/policy/grants.ts';
import { judgeFor, type RunJudge } from '../../../src/policy/policy.ts';
import { remedyFor } from '../../../src/policy/remedy.ts';
import { within } from '../../../src/policy/within.ts';
import { verifies } from '../../verifies.ts';
import { bundleOf, CONFIG, callTo, policyFile } from './fixtures.ts';

const engine = await loadEngine();

/** What a run of the default agent is told, with these flags and policies. */
function judge(allow: readonly string[], ...policies: readonly string[]) {
  const files = policies.map((text, i) => policyFile(text, `policies/${i}.cedar`));
  const config = { ...defaultConfig(), policies: files };
  const policy = policyForRun(engine, config, selectGrant(config), allow);
  return judgeFor(policy, { agent: 'agent', environment: 'local', shadow: false });
}

function verdict(call: CallFacts, allow: readonly string[], ...policies: readonly string[]) {
  const { classify, decide } = judge(allow, ...policies);
  return decide(call, classify(call));
}

const kind = (call: CallFacts, allow: readonly string[]): string => verdict(call, allow).kind;

verifies(
  ['policy.default-deny', 'monitor.default-deny'],
  'an empty policy set denies every call',
  () => {
    for (const method of ['GET', 'HEAD', 'POST', 'DELETE', 'TRACE']) {
      expect(verdict(callTo('https://api.github.com/user', { method }), [])).toEqual({
        kind: 'deny',
        step: 'decide',
        code: 'policy.no-permit',
        reason: expect.stringMatching(/^no policy permits `http\.\w+` on `api.github.com`/),
        told: { status: 403, message: 'belay denied this call: api.github.com is not granted' },
        policies: [],
      });
    }
  },
);

verifies('policy.default-deny', 'a forbid wins over every permit', () => {
  const forbid =
    '@id("no-users") forbid (principal, action, resource) when { context.path == "/user" };';
  expect(verdict(callTo('https://api.github.com/user'), ['api.github.com'], forbid)).toMatchObject({
    code: 'policy.forbid',
    policies: ['no-users'],
    told: { status: 403, message: 'belay denied this call: api.github.com is not allowed' },
  });
  expect(verdict(callTo('https://api.github.com/x'), ['api.github.com'], forbid).kind).toBe(
    'permit',
  );
});

verifies('policy.default-deny', 'a policy that fails while it is evaluated denies', () => {
  // The product overflows: Cedar passes over a forbid that fails, and we do not.
  const overflow =
    '@id("sum") forbid (principal, action, resource) when { context.port * 9223372036854775807 > 0 };';
  expect(verdict(callTo('https://api.github.com/'), ['api.github.com'], overflow)).toMatchObject({
    code: 'policy.error',
    policies: ['sum'],
  });
});

verifies('policy.default-deny', 'a released policy and a flood of query keys deny', () => {
  const config = defaultConfig();
  const policy = policyForRun(engine, config, selectGrant(config), ['x.example']);
  const who = { agent: 'agent', environment: 'local', shadow: false };
  const ask = (url: string) => {
    const call = callTo(url);
    return policy.decide(call, policy.classify(call), who);
  };
  expect(ask('https://x.example/').kind).toBe('permit');
  const keys = Array.from({ length: 300 }, (_, i) => `k${i}`).join('&');
  expect(ask(`https://x.example/?${keys}`)).toMatchObject({ code: 'policy.error' });
  policy[Symbol.dispose]();
  expect(ask('https://x.example/')).toMatchObject({ kind: 'deny', code: 'policy.error' });
});

verifies(
  'policy.allow',
  '--allow HOST permits that host on 443 and 80 and nothing beside it',
  () => {
    const allow = ['api.github.com'];
    for (const url of [
      'https://api.github.com/',
      'http://api.github.com/a',
      'https://API.github.com/b?c=1',
    ]) {
      for (const method of ['GET', 'POST', 'DELETE']) {
        expect(kind(callTo(url, { method }), allow), `${method} ${url}`).toBe('permit');
      }
    }
    for (const url of [
      'https://github.com/',
      'https://x.api.github.com/',
      'https://api.github.com:8443/',
      'https://api.github.co/',
      'https://api-github.com/',
      'https://140.82.121.6/',
      'https://api.github.com.evil.example/',
    ]) {
      expect(kind(callTo(url), allow), url).toBe('deny');
    }
  },
);

verifies('policy.allow', '--allow HOST:PORT permits that port only', () => {
  expect(kind(callTo('https://example.com:8443/'), ['example.com:8443'])).toBe('permit');
  expect(kind(callTo('https://example.com/'), ['example.com:8443'])).toBe('deny');
  expect(verdict(callTo('https://example.com:8444/'), ['example.com:8443'])).toMatchObject({
    told: { message: 'belay denied this call: example.com:8444 is not granted' },
  });
});

interface Row {
  readonly method: string;
  readonly url: string;
  readonly allow: string;
  readonly kind: 'permit' | 'deny';
}

const row = (kind: Row['kind'], allow: string, method: string, url: string): Row => ({
  kind,
  allow,
  method,
  url,
});

const PRESET_ROWS: readonly Row[] = [
  row('permit', 'npm-read', 'GET', 'https://registry.npmjs.org/left-pad'),
  row('permit', 'npm-read', 'GET', 'https://registry.npmjs.org/@scope/name/-/name-1.0.0.tgz'),
  row('deny', 'npm-read', 'PUT', 'https://registry.npmjs.org/left-pad'),
  row('deny', 'npm-read', 'POST', 'https://registry.npmjs.org/-/npm/v1/security/audits'),
  row('deny', 'npm-read', 'GET', 'http://registry.npmjs.org/left-pad'),
  row('deny', 'npm-read', 'GET', 'https://registry.npmjs.org:8443/left-pad'),
  row('permit', 'github-read', 'GET', 'https://api.github.com/repos/a/b'),
  row('deny', 'github-read', 'POST', 'https://api.github.com/repos/a/b/issues'),
  row('deny', 'github-read', 'DELETE', 'https://api.github.com/repos/a/b'),
  row(
    'permit',
    'github-read',
    'GET',
    'https://github.com/a/b.git/info/refs?service=git-upload-pack',
  ),
  row('permit', 'github-read', 'POST', 'https://github.com/a/b.git/git-upload-pack'),
  row(
    'deny',
    'github-read',
    'GET',
    'https://github.com/a/b.git/info/refs?service=git-receive-pack',
  ),
  row(
    'deny',
    'github-read',
    'GET',
    'https://github.com/a/b.git/info/refs?service=git-upload-pack&service=git-receive-pack',
  ),
  row('deny', 'github-read', 'GET', 'https://github.com/a/b.git/info/refs'),
  row('deny', 'github-read', 'POST', 'https://github.com/a/b.git/git-receive-pack'),
  row('deny', 'github-read', 'POST', 'https://github.com/a/b/c/git-upload-pack'),
  row('deny', 'github-read', 'GET', 'https://github.com/a/b'),
  row('permit', 'github-read', 'GET', 'https://raw.githubusercontent.com/a/b/main/x'),
  row('deny', 'github-read', 'GET', 'https://gist.githubusercontent.com/a'),
  row('deny', 'github-read', 'POST', 'https://uploads.github.com/repos/a/b/releases/1/assets'),
  row('permit', 'model:anthropic', 'POST', 'https://api.anthropic.com/v1/messages?beta=true'),
  row('permit', 'model:anthropic', 'POST', 'https://api.anthropic.com/v1/messages/count_tokens'),
  row('permit', 'model:openai', 'POST', 'https://api.openai.com/v1/responses'),
  row('permit', 'model:openai', 'GET', 'https://api.openai.com/v1/models'),
  row('deny', 'model:openai', 'POST', 'https://api.openai.com/v1/files'),
  row('deny', 'model:openai', 'POST', 'https://api.openai.com/v1/chat/completions/x'),
  row(
    'permit',
    'model:google',
    'POST',
    'https://generativelanguage.googleapis.com/v1beta/models/m-1:streamGenerateContent?alt=sse',
  ),
  row(
    'deny',
    'model:google',
    'POST',
    'https://generativelanguage.googleapis.com/v1beta/models/m-1:batchGenerateContent',
  ),
  row('deny', 'model:google', 'POST', 'https://generativelanguage.googleapis.com/v1beta/files'),
  row('permit', 'model:anthropic', 'GET', 'https://api.anthropic.com/v1/models'),
  row('permit', 'model:anthropic', 'HEAD', 'https://api.anthropic.com/'),
  row('deny', 'model:anthropic', 'POST', 'https://api.anthropic.com/v1/messages/batches'),
  row('deny', 'model:anthropic', 'POST', 'https://api.anthropic.com/v1/files'),
  row('deny', 'model:anthropic', 'POST', 'https://api.anthropic.com/api/event_logging/v2/batch'),
  row('deny', 'model:anthropic', 'POST', 'https://evil.example/v1/messages'),
  row('permit', 'pypi-read', 'GET', 'https://pypi.org/simple/requests/'),
  row('permit', 'pypi-read', 'GET', 'https://pypi.org/pypi/requests/2.32.0/json'),
  row('permit', 'pypi-read', 'GET', 'https://files.pythonhosted.org/packages/a/b/c-1.0.whl'),
  row('deny', 'pypi-read', 'POST', 'https://upload.pypi.org/legacy/'),
  row('deny', 'pypi-read', 'GET', 'https://pypi.org/manage/account/'),
  row('permit', 'crates-read', 'GET', 'https://index.crates.io/se/rd/serde'),
  row('permit', 'crates-read', 'GET', 'https://static.crates.io/crates/serde/serde-1.0.0.crate'),
  row('permit', 'crates-read', 'GET', 'https://crates.io/api/v1/crates/serde/1.0.0/download'),
  row('deny', 'crates-read', 'PUT', 'https://crates.io/api/v1/crates/new'),
  row('deny', 'crates-read', 'GET', 'https://crates.io/api/v1/me/tokens'),
  row('permit', 'debian-read', 'GET', 'https://deb.debian.org/debian/dists/bookworm/InRelease'),
  row('permit', 'debian-read', 'GET', 'https://security.debian.org/debian-security/dists/x'),
  row('deny', 'debian-read', 'GET', 'https://deb.debian.org/other/x'),
];

for (const { kind: expected, allow, method, url } of PRESET_ROWS) {
  verifies('policy.allow', `${allow}: ${method} ${url} is ${expected}`, () => {
    expect(kind(callTo(url, { method }), [allow])).toBe(expected);
  });
}

verifies('policy.allow', 'a read preset is not stretched by a key for the method or a body', () => {
  const url = 'https://registry.npmjs.org/left-pad';
  expect(kind(callTo(`${url}?_method=DELETE`), ['npm-read'])).toBe('deny');
  expect(kind(callTo(url, { body: { kind: 'streamed' } }), ['npm-read'])).toBe('deny');
});

verifies('policy.allow', 'effects come with their reasons, and unknown is a write', () => {
  const seen = (allow: readonly string[], url: string, method: string) =>
    judge(allow).classify(callTo(url, { method }));
  const model = 'https://api.anthropic.com/v1/messages';
  expect(seen(['model:anthropic'], model, 'POST')).toEqual({
    effect: 'read',
    kind: 'llm',
    model: 'anthropic',
    reasons: ['model inference', 'route model:anthropic/0'],
  });
  expect(seen([], model, 'POST')).toEqual({
    effect: 'write',
    kind: 'llm',
    model: 'anthropic',
    reasons: ['method POST'],
  });
  expect(seen([], 'https://x.example/', 'GET')).toEqual({
    effect: 'read',
    kind: 'http',
    reasons: ['method GET'],
  });
  expect(seen([], 'https://x.example/', 'DELETE').effect).toBe('irreversible');
  expect(seen([], 'https://x.example/', 'PROPFIND').effect).toBe('write');
});

verifies('policy.allow', 'a route says nothing of another port or of plain HTTP', () => {
  const { classify } = judge(['model:anthropic']);
  for (const origin of ['https://api.anthropic.com:8443', 'http://api.anthropic.com:443']) {
    expect(classify(callTo(`${origin}/v1/messages`, { method: 'POST' }))).toEqual({
      effect: 'write',
      kind: 'http',
      reasons: ['method POST'],
    });
  }
});

verifies('policy.allow', 'a grant holds in its own environment only', () => {
  const config = parseBundle(bundleOf(CONFIG));
  const call = callTo('https://registry.npmjs.org/x');
  const kindIn = (environment: string) => {
    const policy = policyForRun(engine, config, selectGrant(config, { environment: 'dev' }));
    return policy.decide(call, policy.classify(call), {
      agent: 'claude',
      environment,
      shadow: false,
    }).kind;
  };
  expect(kindIn('dev')).toBe('permit');
  expect(kindIn('prod')).toBe('deny');
});

verifies('policy.allow', 'no text can end a Cedar string', () => {
  expect(cedarString('a") || true //\n\\\u2028')).toMatch(/^"[A-Za-z0-9 /\\u{}]*"$/);
  expect(() => judge(['x.example", Host::"y'])).toThrow(
    expect.objectContaining({ code: 'ERR_USAGE' }),
  );
});

verifies('policy.allow', 'the remedy of a denial permits exactly that call', () => {
  for (const url of [
    'https://api.github.com/user',
    'https://registry.npmjs.org/x',
    'https://paste.example/',
    'http://paste.example/',
    'https://example.com:8443/',
    'https://registry/',
    'https://[2001:db8::1]:8443/',
  ]) {
    const call = callTo(url);
    const { method, path, target } = call;
    const { effect } = judge([]).classify(call);
    const remedy = remedyFor({ code: 'policy.no-permit', method, path, effect, ...target });
    expect(kind(call, [String(remedy).replace('--allow ', '')]), String(remedy)).toBe('permit');
  }
  const head = {
    method: 'GET',
    path: '/',
    scheme: 'https',
    host: 'registry.npmjs.org',
    port: 443,
    effect: 'read',
  } as const;
  expect(remedyFor({ ...head, code: 'policy.no-permit' })).toBe('--allow npm-read');
  // A WebSocket is no read, whatever its method.
  expect(remedyFor({ ...head, effect: 'write', code: 'policy.no-permit' })).toBe(
    '--allow registry.npmjs.org',
  );
  expect(remedyFor({ ...head, code: 'policy.forbid' })).toBeNull();
  expect(remedyFor({ ...head, code: 'budget.calls' })).toBeNull();
});

const APPROVED =
  '@id("ask") @approval("ops") permit (principal, action, resource == Host::"pay.example");';

verifies('policy.hold', 'what only an @approval policy permits is held under its name', () => {
  expect(verdict(callTo('https://pay.example/'), [], APPROVED)).toEqual({
    kind: 'hold',
    approval: 'ops',
    policies: ['ask'],
  });
});

verifies('policy.hold', 'another permit makes it a permit, a forbid a denial', () => {
  const call = callTo('https://pay.example/');
  expect(verdict(call, ['pay.example'], APPROVED)).toEqual({
    kind: 'permit',
    policies: ['grant:agent@local/pay.example'],
  });
  const forbid = 'forbid (principal, action, resource);';
  expect(verdict(call, [], APPROVED, forbid)).toMatchObject({
    kind: 'deny',
    code: 'policy.forbid',
  });
});

const PUSH_URL = 'https://git.example/team/app.git/git-receive-pack';
type Asked = readonly [change: 'create' | 'fast-forward' | 'unproven' | 'delete', ref: string];

function push(...refs: readonly Asked[]): CallFacts {
  const changes = refs.map(([change, name]) => ({ change, ref: `refs/heads/${name}` }));
  const body = { kind: 'buffered' } as const;
  const call = callTo(PUSH_URL, { method: 'POST', body });
  return { ...call, push: { kind: 'push', repository: 'team/app', refs: changes } };
}

verifies(
  ['git.push-main', 'git.force-push', 'git.delete-ref'],
  'a push needs two permits, and one forbid of either kind is enough',
  () => {
    const main = push(['fast-forward', 'main']);
    const writes = 'permit (principal, action in Action::"http", resource);';
    const pushes =
      '@id("p") permit (principal, action == Action::"git.push", resource) when { context.ref like "refs/heads/m*" && context.repository == "team/app" };';
    expect(verdict(main, [], writes)).toMatchObject({ code: 'policy.no-permit' });
    expect(verdict(main, [], pushes)).toMatchObject({ code: 'policy.no-permit' });
    expect(verdict(main, [], writes, pushes)).toMatchObject({
      kind: 'permit',
      policies: ['policies/0.cedar:1', 'p'],
    });
    expect(verdict(push(['unproven', 'main']), [], writes, pushes).kind).toBe('deny');
    expect(verdict(push(['delete', 'main']), [], writes, pushes).kind).toBe('deny');
    const mine = push(['create', 'agent/x']);
    expect(verdict(mine, ['git.example']).kind).toBe('permit');
    const noWrites = '@id("w") forbid (principal, action == Action::"http.write", resource);';
    const noPushes = '@id("g") forbid (principal, action in Action::"git", resource);';
    for (const forbid of [noWrites, noPushes]) {
      expect(verdict(mine, ['git.example'], forbid)).toMatchObject({ code: 'policy.forbid' });
    }
  },
);

verifies('git.every-ref', 'an approval that one ref needs holds the whole push', () => {
  const held =
    '@approval("release") permit (principal, action == Action::"git.push", resource) when { context.ref == "refs/heads/main" };';
  const both = push(['create', 'agent/x'], ['fast-forward', 'main'], ['create', 'agent/y']);
  expect(verdict(both, ['git.example'], held)).toMatchObject({ kind: 'hold', approval: 'release' });
  expect(verdict(push(['create', 'agent/x']), ['git.example'], held).kind).toBe('permit');
  const also = push(['fast-forward', 'main'], ['delete', 'agent/x']);
  expect(verdict(also, ['git.example'], held).kind).toBe('deny');
});

verifies('git.unreadable', 'no policy permits a push that is not read', () => {
  const call = { ...push(), push: { kind: 'unreadable', reason: 'it has a query' } } as const;
  const everything = 'permit (principal, action, resource);';
  expect(verdict(push(['delete', 'main']), [], everything).kind).toBe('permit');
  expect(verdict(call, ['git.example'], everything)).toMatchObject({ code: 'push.unreadable' });
});

verifies(
  ['git.every-ref', 'policy.cache'],
  'a decision about one ref is none about another',
  () => {
    const { classify, decide } = judge(['git.example', 'git.push:git.example/team/app#main']);
    const kindOf = (call: CallFacts): string => decide(call, classify(call)).kind;
    const asked: readonly (readonly [Asked, string])[] = [
      [['create', 'agent/x'], 'permit'],
      [['create', 'other'], 'deny'],
      [['fast-forward', 'main'], 'permit'],
      [['unproven', 'main'], 'deny'],
      [['unproven', 'agent/x'], 'deny'],
      [['create', 'main'], 'permit'],
    ];
    for (const [one, expected] of [...asked, ...asked.toReversed()]) {
      expect(kindOf(push(one)), one.join(' ')).toBe(expected);
    }
    const elsewhere = push(['fast-forward', 'main']).push as Push;
    const other = { ...push(), push: { ...elsewhere, repository: 'team/other' } };
    expect(kindOf(other)).toBe('deny');
  },
);

verifies(
  'policy.context',
  'a host that is not counted any more is denied, not taken for a new one',
  () => {
    const visit = (run: RunJudge, host: string) => {
      const call = callTo(`https://${host}/`);
      const told = run.decide(call, run.classify(call));
      if (told.kind === 'permit') run.permitted(call);
      return told;
    };
    const first = 'forbid (principal, action, resource) when { context.hostCalls >= 1 };';
    const hosts = Array.from({ length: 1025 }, (_, i) => `h${i}.example`);
    const permits = 'permit (principal, action, resource);';
    const [counting, other] = [judge([], permits, first), judge([], permits)];
    for (const host of hosts.slice(0, 1024))
      expect(visit(counting, host).kind, host).toBe('permit');
    expect(visit(counting, 'h1024.example')).toMatchObject({
      code: 'policy.error',
      reason: 'a policy reads `hostCalls`, which is kept for 1024 hosts of a run',
      told: { message: 'belay denied this call: h1024.example is one host too many' },
    });
    expect(visit(counting, 'h0.example')).toMatchObject({ code: 'policy.forbid' });
    // Where no policy asks, nothing has to be counted.
    for (const host of hosts) expect(visit(other, host).kind, host).toBe('permit');
  },
);

verifies('policy.context', 'what a parent refuses counts for neither it nor its sub-run', () => {
  const own = judge([], 'permit (principal, action, resource) when { context.runCalls < 2 };');
  const above = judge(['ok.example']);
  const run = within(own, above, 'r-parent');
  const visit = (host: string): string => {
    const call = callTo(`https://${host}/`);
    const told = run.decide(call, run.classify(call));
    if (told.kind === 'permit') run.permitted(call);
    return told.kind === 'deny' ? told.code : told.kind;
  };
  const refused = Array.from({ length: 3 }, () => 'no.example');
  expect(refused.map(visit)).toEqual(refused.map(() => 'grant.parent'));
  const permitted = Array.from({ length: 3 }, () => 'ok.example');
  expect(permitted.map(visit)).toEqual(['permit', 'permit', 'policy.no-permit']);
});
