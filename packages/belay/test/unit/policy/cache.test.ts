import fc from 'fast-check';
import { expect } from 'vitest';
import { decisionKey, remembered } from '../../../src/policy/cache.ts';
import { loadEngine } from '../../../src/policy/engine.ts';
import { readsOf } from '../../../src/policy/reads.ts';
import { cedarRequest, type PolicyRequest } from '../../../src/policy/request.ts';
import { oracle, prove, request, sampleRequests } from '../../fault/policy-cache.ts';
import { verifies } from '../../verifies.ts';

const engine = await loadEngine();
const REQUESTS = sampleRequests(200, 20_261_121);

verifies(
  'policy.cache',
  'over 2,000 random requests the cached and sliced decision is the one that Cedar gives uncached',
  async () => {
    const figures = await prove({ scale: 1 / 50, seed: 20_261_121 });
    expect(figures.requests).toBe(2_000);
    expect(figures.allowed).toBeGreaterThan(200);
    expect(figures.denied).toBeGreaterThan(200);
    expect(figures.failed).toBeGreaterThan(5);
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
  'contentType',
  'kind',
  'shadow',
  'routes',
  'template',
  'fields',
  'taint',
  'runCalls',
  'hostCalls',
];

for (const dropped of ATTRIBUTES) {
  verifies(
    'policy.cache',
    `the same comparison catches a key that forgets \`${dropped}\``,
    () => {
      const kept = new Set(ATTRIBUTES.filter((attribute) => attribute !== dropped));
      // Requests that differ in that attribute alone meet in a cache that forgets it.
      const pairs = REQUESTS.slice(0, 160).flatMap((asked) =>
        REQUESTS.slice(160, 200).map((other) => {
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
