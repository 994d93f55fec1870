import { expect } from 'vitest';
import { parseBundle } from '../../../src/config/bundle.ts';
import { selectGrant } from '../../../src/config/select.ts';
import { checkPolicies } from '../../../src/policy/check.ts';
import { loadEngine } from '../../../src/policy/engine.ts';
import { policyForRun } from '../../../src/policy/for-run.ts';
import { splitPolicies } from '../../../src/policy/rules.ts';
import { verifies } from '../../verifies.ts';
import { bundleOf, CONFIG, policyFile } from './fixtures.ts';

const engine = await loadEngine();

interface Row {
  readonly text: string;
  readonly at: string;
  readonly says: RegExp;
  readonly hint?: RegExp;
}

const ROWS: readonly Row[] = [
  {
    text: 'permit (principal, action, resource)\nwhen { context.port = 443 };',
    at: '2:8',
    says: /'=' is not a valid operator/,
    hint: /==/,
  },
  {
    text: '// héé 💥\npermit (principal, action, resource)\nwhen { context.prt == 443 };',
    at: '3:8',
    says: /`prt`/,
    hint: /`port`/,
  },
  {
    text: 'permit (principal, action, resource)\n  when { context.sizeBytes < 9 };',
    at: '2:10',
    says: /optional attribute `sizeBytes`/,
    hint: /has sizeBytes/,
  },
  {
    text: 'permit (principal == Agnt::"claude", action, resource);',
    at: '1:22',
    says: /`Agnt`/,
    hint: /`Agent`/,
  },
  {
    text: 'permit (principal, action == Action::"http.red", resource);',
    at: '1:30',
    says: /http\.red/,
    hint: /http\.read/,
  },
  {
    text: 'permit (principal, action, resource) when { context.port == "x" };',
    at: '1:45',
    says: /types/,
  },
  {
    text: 'forbid (principal, action, resource)\n  when { context.fields.amuont == 1 };',
    at: '2:10',
    says: /`fields.amuont`/,
  },
  {
    text: 'forbid (principal, action, resource) when { context.fields.amount > 5 };',
    at: '1:45',
    says: /optional attribute `fields.amount`/,
    hint: /has amount/,
  },
  {
    text: 'forbid (principal, action, resource) when { context.routes.contains("refnud") };',
    at: '1:69',
    says: /unknown route `refnud`/,
    hint: /`refund`/,
  },
  {
    text: 'forbid (principal, action, resource) when { context.taint.containsAny(["mail", "meil"]) };',
    at: '1:80',
    says: /unknown taint `meil`/,
    hint: /`mail`/,
  },
  {
    text: 'forbid (principal, action, resource) unless { "/v1/refund" != context.template };',
    at: '1:47',
    says: /unknown template `\/v1\/refund`/,
    hint: /`\/v1\/refunds`/,
  },
  { text: 'permit (principal, action, resource)', at: '1:37', says: /unexpected end/, hint: /;/ },
  {
    text: '\npermit (principal == ?principal, action, resource);',
    at: '2:22',
    says: /templates are not supported/,
  },
  {
    text: 'forbid (principal == Host::"x.com", action, resource);',
    at: '1:1',
    says: /unable to find an applicable action/,
  },
  {
    text: 'permit (principal, action, resource);\nforbid (principal == Agent::"cluade", action, resource);',
    at: '2:22',
    says: /unknown agent `cluade`/,
    hint: /`claude`/,
  },
  {
    text: 'forbid (principal, action, resource) when { principal in Environment::"pro" };',
    at: '1:58',
    says: /unknown environment `pro`/,
    hint: /`prod`/,
  },
  {
    text: 'forbid (principal, action, resource == Host::"API.example.com");',
    at: '1:40',
    says: /no call ever has the host/,
    hint: /`api.example.com`/,
  },
  {
    text: 'forbid (principal, action, resource in Host::"*.example.com");',
    at: '1:40',
    says: /no call ever/,
    hint: /`example.com`/,
  },
  {
    text: '@id("a")\npermit (principal, action, resource);\n\n@id("a")\nforbid (principal, action, resource);',
    at: '4:1',
    says: /second policy is named `a`/,
  },
  { text: '@id\npermit (principal, action, resource);', at: '1:1', says: /`@id` is empty/ },
  {
    text: '@approval\npermit (principal, action, resource);',
    at: '1:1',
    says: /names no approval/,
  },
  {
    text: '@approval("x")\nforbid (principal, action, resource);',
    at: '1:1',
    says: /no meaning on a forbid/,
  },
];

for (const { text, at, says, hint } of ROWS) {
  verifies('policy.errors', `at ${at}: ${says.source}`, () => {
    const bundle = bundleOf(CONFIG, policyFile(text));
    const problems = checkPolicies(engine, bundle);
    expect(problems).toHaveLength(1);
    const [problem] = problems;
    expect(`${problem?.file}:${problem?.line}:${problem?.column}`).toBe(`policies/web.cedar:${at}`);
    expect(problem?.message).toMatch(says);
    expect(problem?.message).not.toMatch(/policy0|\.$/);
    if (hint !== undefined) expect(problem?.hint).toMatch(hint);
    // What check reports, a run refuses.
    const config = parseBundle(bundle);
    expect(() => policyForRun(engine, config, selectGrant(config))).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG',
        message: `policies/web.cedar:${at}: ${problem?.message}`,
      }),
    );
  });
}

verifies('policy.errors', 'right policies and every preset have no problems', () => {
  const everything = CONFIG.replace(
    '"npm-read"',
    '"npm-read", "github-read", "model:anthropic", "api.github.com"',
  );
  const file = policyFile(
    'permit (principal in Environment::"dev", action, resource in Host::"example.com");',
  );
  expect(checkPolicies(engine, bundleOf(everything, file))).toEqual([]);
});

verifies('policy.errors', 'a broken belay.jsonc is reported by the same check', () => {
  const [problem] = checkPolicies(engine, bundleOf(CONFIG.replace('npm-read', 'npm-reed')));
  expect(problem).toMatchObject({ file: 'belay.jsonc', line: 7, hint: 'did you mean `npm-read`?' });
});

verifies(
  'policy.errors',
  'policies are told apart by semicolons outside strings and comments',
  () => {
    const text =
      '// a; b\n@id("x;\\"y")\npermit (principal, action, resource); // end;\nforbid (principal, action, resource) when { "//;" == "" };';
    expect(
      splitPolicies(text).map(({ offset, text: policy }) => [offset, policy.slice(0, 6)]),
    ).toEqual([
      [text.indexOf('@id'), '@id("x'],
      [text.indexOf('forbid'), 'forbid'],
    ]);
  },
);
