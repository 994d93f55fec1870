import { expect } from 'vitest';
import { testPolicies } from '../../../src/policy/cases.ts';
import { loadEngine } from '../../../src/policy/engine.ts';
import { explain } from '../../../src/policy/explain.ts';
import { verifies } from '../../verifies.ts';
import { bundleOf, CONFIG, policyFile } from './fixtures.ts';

const engine = await loadEngine();
const FORBID = policyFile(
  '// no audits\n\nforbid (principal, action, resource)\nwhen { context.path like "/-/*" };',
);
const BUNDLE = bundleOf(CONFIG, FORBID);
const get = (url: string, more: object = {}) =>
  explain(engine, BUNDLE, { method: 'GET', url, ...more });

verifies('policy.explain', 'a permit is explained by the entry of the grant that gave it', () => {
  const said = get('https://registry.npmjs.org/left-pad');
  expect(said).toMatchObject({
    agent: 'claude',
    environment: 'dev',
    effect: 'read',
    reasons: ['read of the npm registry', 'route npm-read/0'],
    verdict: { kind: 'permit' },
    policies: [{ id: 'grant:claude@dev/npm-read/0', origin: 'belay.jsonc:7:17', effect: 'permit' }],
    remedy: null,
    notes: [],
  });
});

verifies('policy.explain', 'a forbid is named with its file and line', () => {
  const said = get('https://registry.npmjs.org/-/whoami');
  expect(said.verdict).toMatchObject({ kind: 'deny', code: 'policy.forbid' });
  expect(said.policies).toEqual([
    expect.objectContaining({ origin: 'policies/web.cedar:3', effect: 'forbid' }),
  ]);
  expect(said.remedy).toBeNull();
});

verifies('policy.explain', 'what nothing permits comes with the flag that would', () => {
  expect(get('https://api.github.com/user')).toMatchObject({
    verdict: { code: 'policy.no-permit' },
    policies: [],
    remedy: '--allow github-read',
  });
  expect(get('https://x.example/', { allow: ['x.example'] }).policies).toEqual([
    expect.objectContaining({ origin: '--allow x.example' }),
  ]);
  expect(get('https://registry.npmjs.org/x', { environment: 'prod' }).notes).toEqual([
    'no grant: only `--allow` and policy files count',
  ]);
});

verifies(
  'policy.explain',
  'a tunnel is permitted by the entry that names its host and port',
  () => {
    const url = 'tcp://db.example:5432';
    const tunnel = (text: string, allow: readonly string[] = []) =>
      explain(engine, BUNDLE, { method: 'CONNECT', url: text, allow });
    expect(tunnel(url, [url])).toMatchObject({ kind: 'tunnel', verdict: { kind: 'permit' } });
    const denied = tunnel('tls://Pinned.example', [url, 'pinned.example']);
    expect(denied.verdict).toMatchObject({
      code: 'policy.no-permit',
      reason: expect.stringContaining('`tunnel.tls` on `pinned.example`'),
    });
    expect(denied.remedy).toBe('--allow tls://pinned.example:443');
    expect(() => tunnel('tcp://db.example')).toThrow(/has no port/);
    expect(() => tunnel('https://db.example')).toThrow(/no call is `CONNECT https:`/);
    expect(() => get(url)).toThrow(/no call is `GET tcp:`/);
  },
);

verifies('policy.explain', 'a grant that counts for nothing now is noted', () => {
  const text = CONFIG.replace(
    '"allow"',
    '"expires": "2026-01-01T00:00:00Z", "state": "under review", "allow"',
  );
  const event = { method: 'GET', url: 'https://registry.npmjs.org/x', nowMs: Date.UTC(2026, 5) };
  expect(explain(engine, bundleOf(text), event).notes).toEqual([
    'the grant is under review: nothing live is permitted',
    'the grant expired at 2026-01-01T00:00:00.000Z',
  ]);
});

verifies('policy.explain', 'an event that is no call is refused with a hint', () => {
  const refused = (method: string, url: string) => () => explain(engine, BUNDLE, { method, url });
  const usage = expect.objectContaining({ code: 'ERR_USAGE' });
  expect(refused('get', 'https://x.example/')).toThrow(usage);
  expect(refused('GET', 'x.example')).toThrow(usage);
  expect(refused('GET', 'file:///etc/passwd')).toThrow(usage);
  expect(refused('GET', 'https://x.example/a%2Fb')).toThrow(usage);
});

verifies(['policy.explain', 'git.push-main'], 'a push is explained by its refs', () => {
  const url = 'https://git.example/team/app.git/git-receive-pack';
  const ask = (push?: readonly string[]) =>
    explain(engine, BUNDLE, { method: 'POST', url, push, allow: ['git.example'] });
  expect(ask(['create:agent/x', 'fast-forward:refs/heads/agent/y'])).toMatchObject({
    verdict: { kind: 'permit' },
    effect: 'write',
    notes: [],
  });
  expect(ask(['create:agent/x', 'unproven:main'])).toMatchObject({
    verdict: { kind: 'deny', code: 'policy.no-permit' },
    effect: 'irreversible',
    remedy: '--allow git.force-push:git.example/team/app#main',
  });
  expect(ask().notes).toEqual([expect.stringContaining('--push')]);
  const usage = expect.objectContaining({ code: 'ERR_USAGE' });
  for (const push of [['main'], ['create:'], ['forced:main']]) {
    expect(() => ask(push)).toThrow(usage);
  }
  const elsewhere = { method: 'POST', url: 'https://git.example/x', push: ['create:a'] };
  expect(() => explain(engine, BUNDLE, elsewhere)).toThrow(usage);
});

const cases = (text: string) => policyFile(text, 'policies/tests.jsonc');

verifies('policy.test', 'cases pass or fail by their verdict, each with its place', () => {
  const results = testPolicies(
    engine,
    BUNDLE,
    cases(`[
  { "name": "reads npm", "agent": "claude", "environment": "dev", "method": "GET",
    "url": "https://registry.npmjs.org/x", "expect": "permit" },
  { "name": "wrong", "url": "https://registry.npmjs.org/-/whoami", "expect": "permit" },
  { "name": "not in prod", "environment": "prod", "url": "https://registry.npmjs.org/x", "expect": "deny" },
  { "name": "no push", "method": "POST", "url": "https://registry.npmjs.org/a/git-receive-pack",
    "push": ["create:agent/x"], "expect": "deny" }
]`),
  );
  expect(results.map(({ name, passed, actual }) => [name, passed, actual])).toEqual([
    ['reads npm', true, 'permit'],
    ['wrong', false, 'deny'],
    ['not in prod', true, 'deny'],
    ['no push', true, 'deny'],
  ]);
  expect(results[1]).toMatchObject({
    origin: 'policies/tests.jsonc:4:3',
    policies: [{ origin: 'policies/web.cedar:3' }],
  });
});

verifies('policy.test', 'a broken case is refused with its line', () => {
  const run = (text: string) => () => testPolicies(engine, BUNDLE, cases(text));
  expect(run('[\n{ "name": "x", "url": "https://x.example/", "expect": "alow" }]')).toThrow(
    /^policies\/tests\.jsonc:2:55: .*must be `permit` or `deny` or `hold`/,
  );
  expect(run('[\n{ "name": "x", "urll": "https://x.example/", "expect": "deny" }]')).toThrow(
    /tests\.jsonc:2:/,
  );
  expect(
    run('[\n{ "name": "x", "agent": "cluade", "url": "https://x.example/", "expect": "deny" }]'),
  ).toThrow(expect.objectContaining({ code: 'ERR_CONFIG', hint: 'did you mean `claude`?' }));
});
