import { isAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import fc from 'fast-check';
import { expect } from 'vitest';
import { parseHost } from '../../../src/core/target.ts';
import { decisionKey, remembered } from '../../../src/policy/cache.ts';
import { loadEngine } from '../../../src/policy/engine.ts';
import { createPolicy } from '../../../src/policy/policy.ts';
import { readsOf } from '../../../src/policy/reads.ts';
import { cedarRequest, type HttpContext, type PolicyRequest } from '../../../src/policy/request.ts';
import { CEDAR_SCHEMA } from '../../../src/policy/schema.ts';
import type { Decision } from '../../../src/policy/verdicts.ts';
import { verifies } from '../../verifies.ts';

const engine = await loadEngine();

/** Each reads something else; scopes of every form; one fails at times. */
const POLICIES = [
  'permit (principal == Agent::"a", action == Action::"http.read", resource == Host::"x.example");',
  'permit (principal, action in Action::"http", resource in Host::"example") when { context.method == "GET" };',
  'permit (principal in Environment::"dev", action, resource) when { context.path like "/v1/*" };',
  'permit (principal is Agent in Environment::"prod", action in [Action::"http.read", Action::"http.write"], resource is Host) when { context.port == 443 && context.scheme == "https" };',
  '@approval("ops") permit (principal, action == Action::"http.irreversible", resource) when { context.routes.contains("r/1") };',
  'permit (principal, action, resource) when { context has sizeBytes && context.sizeBytes < 100 && context.bodyKind == "buffered" };',
  'forbid (principal, action, resource) when { context.queryKeys.contains("token") };',
  'forbid (principal, action, resource == Host::"y.example") unless { context.kind == "llm" || context.shadow };',
  'forbid (principal == Agent::"b", action, resource) when { context.port * 9223372036854775 > 9223372036854775 && context.path == "/v1/x" };',
  'forbid (principal, action, resource is Host in Host::"z.example") when { if context.shadow then context.method != "GET" else false };',
].map((text, i) => `@id("p${i}") ${text}`);

// This one uses the context as a whole, so its slice is keyed on all of it.
const WHOLE =
  '@id("whole") forbid (principal == Agent::"c", action, resource) when { [context].contains(context) && context.path == "/v1/y" };';

const context: fc.Arbitrary<HttpContext> = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'DELETE'),
    scheme: fc.constantFrom('http', 'https'),
    port: fc.constantFrom(80, 443, 8443),
    path: fc.constantFrom('/', '/v1/x', '/v1/y', '/v2/x'),
    queryKeys: fc.uniqueArray(fc.constantFrom('token', 'q', 'page')),
    bodyKind: fc.constantFrom('none', 'buffered', 'streamed'),
    sizeBytes: fc.constantFrom(undefined, 0, 99, 100, 2 ** 40),
    kind: fc.constantFrom('http', 'llm'),
    shadow: fc.boolean(),
    routes: fc.uniqueArray(fc.constantFrom('r/1', 'r/2')),
  })
  .map(({ sizeBytes, ...rest }) => (sizeBytes === undefined ? rest : { ...rest, sizeBytes }));

const request: fc.Arbitrary<PolicyRequest> = fc.record({
  agent: fc.constantFrom('a', 'b', 'c'),
  environment: fc.constantFrom('dev', 'prod'),
  action: fc.oneof(
    { arbitrary: fc.constantFrom('http.read', 'http.write', 'http.irreversible'), weight: 12 },
    { arbitrary: fc.constant('tunnel.tcp'), weight: 1 },
  ),
  host: fc.constantFrom('x.example', 'y.example', 'w.z.example', 'other.test').map(parseHost),
  context,
});

const ALL = Object.fromEntries(
  [...POLICIES, WHOLE].map((text) => [/@id\("(.*?)"\)/.exec(text)?.[1] ?? '', text]),
);

/** Cedar itself: every policy, no slice, no cache, the request checked against the schema. */
function oracle(asked: PolicyRequest): Decision {
  const answer = isAuthorized({
    ...cedarRequest(asked),
    schema: CEDAR_SCHEMA,
    validateRequest: true,
    policies: { staticPolicies: ALL },
  });
  if (answer.type === 'failure') throw new Error(answer.errors[0]?.message);
  const { decision, diagnostics } = answer.response;
  return {
    allowed: decision === 'allow',
    policies: diagnostics.reason.toSorted(),
    errors: diagnostics.errors.map(({ policyId, error }) => ({
      policy: policyId,
      error: error.message,
    })),
  };
}

/** Asks in order; the index of the first request that gets another decision than Cedar's. */
function firstDifference(
  requests: readonly PolicyRequest[],
  decide: (asked: PolicyRequest) => Decision,
): number {
  const same = (a: Decision, b: Decision): boolean =>
    JSON.stringify([a.allowed, a.policies, a.errors.map((e) => e.policy)]) ===
    JSON.stringify([b.allowed, b.policies, b.errors.map((e) => e.policy)]);
  return requests.findIndex((asked) => !same(decide(asked), oracle(asked)));
}

const REQUESTS = fc.sample(request, { numRuns: 2000, seed: 20_261_121 });

const policyOfAll = () =>
  createPolicy({
    engine,
    policies: [{ file: 'all.cedar', text: [...POLICIES, WHOLE].join('\n') }],
    presets: [],
    granted: [],
  });

verifies(
  'policy.cache',
  'over 2,000 random requests the cached and sliced decision is the one that Cedar gives uncached',
  () => {
    using policy = policyOfAll();
    expect(firstDifference(REQUESTS, policy.judge)).toBe(-1);
    // Asked again, everything is answered from the cache, and still equal.
    expect(firstDifference(REQUESTS.slice(0, 300), policy.judge)).toBe(-1);
    const said = REQUESTS.map(policy.judge);
    expect(said.filter(({ allowed }) => allowed).length).toBeGreaterThan(200);
    expect(said.filter(({ allowed }) => !allowed).length).toBeGreaterThan(200);
    expect(said.filter(({ errors }) => errors.length > 0).length).toBeGreaterThan(5);
  },
  { timeoutMs: 120_000 },
);

const ATTRIBUTES = [
  'method',
  'scheme',
  'port',
  'path',
  'queryKeys',
  'bodyKind',
  'sizeBytes',
  'kind',
  'shadow',
  'routes',
];

for (const dropped of ATTRIBUTES) {
  verifies(
    'policy.cache',
    `the same comparison catches a key that forgets \`${dropped}\``,
    () => {
      const kept = new Set(ATTRIBUTES.filter((attribute) => attribute !== dropped));
      // Requests that differ in that attribute alone meet in a cache that forgets it.
      const pairs = REQUESTS.slice(0, 60).flatMap((asked) =>
        REQUESTS.slice(60, 100).map((other) => {
          const { [dropped as 'method']: _gone, ...rest } = asked.context;
          const value = other.context[dropped as 'method'];
          return {
            ...asked,
            context: { ...rest, ...(value === undefined ? {} : { [dropped]: value }) },
          };
        }),
      ) as unknown as readonly PolicyRequest[];
      const known = remembered(1e6, (asked: PolicyRequest) => decisionKey(asked, 'all'), oracle);
      const forgetful = remembered(1e6, (asked: PolicyRequest) => decisionKey(asked, kept), known);
      const differs = pairs.some(
        (asked) => JSON.stringify(forgetful(asked)) !== JSON.stringify(known(asked)),
      );
      expect(differs).toBe(true);
    },
    { timeoutMs: 120_000 },
  );
}

verifies('policy.cache', 'what a policy reads is found in its syntax tree', () => {
  const readsIn = (when: string) =>
    readsOf(engine.tree(`permit (principal, action, resource) when { ${when} };`));
  expect(readsIn('context.port == 443 && context.path like "/a*"')).toEqual(
    new Set(['port', 'path']),
  );
  expect(readsIn('context has sizeBytes')).toEqual(new Set(['sizeBytes']));
  expect(readsIn('context["method"] == "GET"')).toEqual(new Set(['method']));
  expect(readsIn('if context.shadow then true else !(context.kind == "x")')).toEqual(
    new Set(['shadow', 'kind']),
  );
  expect(readsIn('{"Var": context.port} == {"Var": 1}')).toEqual(new Set(['port']));
  expect(readsIn('context.queryKeys.containsAny(["a", context.path])')).toEqual(
    new Set(['queryKeys', 'path']),
  );
  expect(readsIn('ip(context.path).isLoopback()')).toEqual(new Set(['path']));
  expect(readsIn('resource.name == "x"')).toEqual(new Set());
  expect(readsIn('{"a": context} == {"a": context}')).toBe('all');
  expect(readsIn('context == context')).toBe('all');
  expect(readsIn('principal has x && [context].contains(context)')).toBe('all');
});

verifies(
  'policy.cache',
  'two requests share a key only when they are equal in all that is read',
  () => {
    const same = (a: PolicyRequest, b: PolicyRequest) =>
      JSON.stringify(cedarRequest(normal(a))) === JSON.stringify(cedarRequest(normal(b)));
    fc.assert(
      fc.property(request, request, (a, b) => {
        expect(decisionKey(a, 'all') === decisionKey(b, 'all')).toBe(same(a, b));
      }),
      { numRuns: 2000 },
    );
  },
);

/** Sets in order and attributes in order, as the key has them. */
function normal(asked: PolicyRequest): PolicyRequest {
  const { queryKeys, routes } = asked.context;
  return {
    ...asked,
    context: { ...asked.context, queryKeys: queryKeys.toSorted(), routes: routes.toSorted() },
  };
}

verifies('policy.cache', 'the cache is bounded and forgets what was used longest ago', () => {
  let evaluated = 0;
  const decide = remembered(
    4,
    (n: number) => String(n),
    (n) => ({ n, at: evaluated++ }),
  );
  for (const n of [1, 2, 3, 4]) decide(n);
  decide(1);
  decide(5);
  expect(evaluated).toBe(5);
  decide(1);
  expect(evaluated).toBe(5);
  decide(2);
  expect(evaluated).toBe(6);
});
