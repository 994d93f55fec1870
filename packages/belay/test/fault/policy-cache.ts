// Whether the decision that a run gets, sliced by scope and kept in a cache, is the one that Cedar gives
// when it is asked with all policies and every time. `policy.cache`; full size is 100,000 requests.

import { isAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import fc from 'fast-check';
import type { RouteConfig } from '../../src/config/config.ts';
import { parseHost } from '../../src/core/target.ts';
import { loadEngine } from '../../src/policy/engine.ts';
import { createPolicy, type Policy } from '../../src/policy/policy.ts';
import { cedarRequest, type HttpContext, type PolicyRequest } from '../../src/policy/request.ts';
import { cedarSchema, typesOf } from '../../src/policy/schema.ts';
import type { Decision } from '../../src/policy/verdicts.ts';

export const covers = ['packages/belay/src/policy', 'packages/belay/src/core'];

const FULL = 100_000;

export interface CacheFigures {
  readonly requests: number;
  readonly allowed: number;
  readonly denied: number;
  /** Of the denied: a policy that could not be evaluated. */
  readonly failed: number;
}

const engine = await loadEngine();

const ROUTES: readonly RouteConfig[] = [
  {
    name: 'refund',
    host: parseHost('x.example'),
    port: 443,
    methods: ['POST'],
    paths: ['/v1/*'],
    fields: new Map([
      ['amount', { type: 'long', at: ['amount'] }],
      ['to', { type: 'string', at: ['to'] }],
      ['now', { type: 'boolean', at: ['now'] }],
    ]),
  },
];

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
  'forbid (principal, action, resource) when { context.contentType == "text/html" && context.method == "POST" };',
  'permit (principal, action == Action::"http.write", resource) when { context.hostCalls == 0 || context.runCalls < 5 };',
  'permit (principal == Agent::"b", action, resource) when { context.fields has amount && context.fields.amount <= 50 };',
  'forbid (principal == Agent::"c", action, resource) when { context.fields has now && context.fields.now && context.fields has to && context.fields.to == "t" };',
  'forbid (principal in Environment::"prod", action == Action::"http.write", resource == Host::"x.example") when { context.taint.contains("web") };',
  'permit (principal == Agent::"a", action, resource == Host::"x.example") when { context.template == "/v1/*" };',
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
    contentType: fc.constantFrom('', 'application/json', 'text/html'),
    kind: fc.constantFrom('http', 'llm'),
    shadow: fc.boolean(),
    routes: fc.uniqueArray(fc.constantFrom('r/1', 'r/2')),
    template: fc.constantFrom('', '/v1/*', '/v2/*'),
    fields: fc.constantFrom(
      {},
      ...[{ amount: 50 }, { amount: 51 }, { amount: 50, now: true }, { to: 't', now: true }],
      ...[
        { now: true, to: 't' },
        { to: '","now', amount: 50 },
      ],
    ),
    taint: fc.constantFrom([], [], [], ['web']),
    runCalls: fc.constantFrom(0, 4, 5, 1_000),
    hostCalls: fc.constantFrom(0, 1, 4),
  })
  .map(({ sizeBytes, ...rest }) => (sizeBytes === undefined ? rest : { ...rest, sizeBytes }));

export const request: fc.Arbitrary<PolicyRequest> = fc.record({
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

const SCHEMA = cedarSchema(typesOf(ROUTES));

/** Cedar itself: every policy, no slice, no cache, the request checked against the schema. */
export function oracle(asked: PolicyRequest): Decision {
  const answer = isAuthorized({
    ...cedarRequest(asked),
    schema: SCHEMA,
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

const policyOfAll = (): Policy =>
  createPolicy({
    engine,
    policies: [{ file: 'all.cedar', text: [...POLICIES, WHOLE].join('\n') }],
    presets: [],
    granted: [],
    routes: ROUTES,
  });

export function sampleRequests(count: number, seed: number): readonly PolicyRequest[] {
  return fc.sample(request, { numRuns: count, seed });
}

/** Throws with the first request that is decided otherwise. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<CacheFigures> {
  const requests = sampleRequests(Math.round(FULL * size.scale), size.seed);
  using policy = policyOfAll();
  const at = firstDifference(requests, policy.judge);
  if (at >= 0) throw new Error(`decided otherwise than by Cedar: ${JSON.stringify(requests[at])}`);
  // Asked again, the last ones are answered from the cache, and still equal.
  const again = firstDifference(requests.slice(-300), policy.judge);
  if (again >= 0) throw new Error(`remembered wrongly: ${JSON.stringify(requests[again])}`);
  const said = requests.map(policy.judge);
  return {
    requests: requests.length,
    allowed: said.filter(({ allowed }) => allowed).length,
    denied: said.filter(({ allowed }) => !allowed).length,
    failed: said.filter(({ errors }) => errors.length > 0).length,
  };
}
