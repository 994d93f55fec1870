// belay policy: check the configuration, test it against cases, explain one call, suggest a grant.

import type { Command } from 'commander';
import { parseBundle } from '../config/bundle.ts';
import { readPolicyTests } from '../config/load.ts';
import { problemLine } from '../config/problem.ts';
import { bundleOf } from '../control/bundle.ts';
import { entriesOf } from '../control/entries.ts';
import { findHome } from '../control/home.ts';
import { BelayError } from '../core/errors.ts';
import { EXIT } from '../core/exit.ts';
import { hostPort, printable } from '../core/target.ts';
import { testPolicies } from '../policy/cases.ts';
import { checkPolicies } from '../policy/check.ts';
import { loadEngine } from '../policy/engine.ts';
import { explain } from '../policy/explain.ts';
import { suggest } from '../policy/suggest.ts';
import { printJson } from './output.ts';

interface Shared {
  readonly workdir: string;
  readonly json?: boolean;
}

export function register(program: Command): void {
  const policy = program
    .command('policy')
    .description('check, test, explain and suggest what is permitted');

  policy
    .command('check')
    .description('validate belay.jsonc and the policies')
    .option('--workdir <dir>', 'the workspace', '.')
    .option('--json', 'as JSON')
    .action(async (options: Shared) => {
      const problems = checkPolicies(
        await loadEngine(),
        bundleOf(options.workdir, findHome(process.env)),
      );
      if (options.json) printJson('policy.check', { ok: problems.length === 0, problems });
      else {
        for (const problem of problems) {
          process.stdout.write(`${problemLine(problem)}\n`);
          if (problem.hint !== undefined) process.stdout.write(`  hint: ${problem.hint}\n`);
        }
        if (problems.length === 0) process.stdout.write('ok\n');
      }
      if (problems.length > 0) process.exitCode = EXIT.failed;
    });

  policy
    .command('test')
    .description('run the cases of policies/tests.jsonc')
    .option('--workdir <dir>', 'the workspace', '.')
    .option('--json', 'as JSON')
    .action(async (options: Shared) => {
      const bundle = bundleOf(options.workdir, findHome(process.env));
      const cases = readPolicyTests(options.workdir, parseBundle(bundle));
      if (cases === undefined) {
        throw new BelayError('ERR_USAGE', 'there is no policies/tests.jsonc', {
          hint: 'write [{ "name": ..., "method": "GET", "url": ..., "expect": "permit" }]',
        });
      }
      const results = testPolicies(await loadEngine(), bundle, cases);
      const failures = results.filter(({ passed }) => !passed);
      if (options.json) printJson('policy.test', { ok: failures.length === 0, results });
      else {
        for (const { name, origin, expected, actual } of failures) {
          process.stdout.write(`FAIL ${name} (${origin}): expected ${expected}, got ${actual}\n`);
        }
        process.stdout.write(
          `${results.length - failures.length} passed, ${failures.length} failed\n`,
        );
      }
      if (failures.length > 0) process.exitCode = EXIT.failed;
    });

  policy
    .command('suggest')
    .description('the least that would have let a run do what it tried')
    .requiredOption('--from <run>', 'a run in the ledger')
    .option('--json', 'as JSON')
    .action(async ({ from, json }: { from: string; json?: boolean }) => {
      const suggestion = await suggest(from, entriesOf(findHome(process.env), { run: from }));
      if (json) return printJson('policy.suggest', { ...suggestion });
      const { agent, environment, allow, calls, byPolicies, refused } = suggestion;
      process.stderr.write(`belay: ${from} of ${agent} in ${environment}: ${calls} calls\n`);
      process.stdout.write(`"allow": ${JSON.stringify(allow)}\n`);
      if (byPolicies > 0) {
        process.stderr.write(`belay: ${byPolicies} calls were permitted by policy files alone\n`);
      }
      for (const { method, host, port, code, reason, count } of refused) {
        const what = printable(`${method} ${hostPort({ host, port })}: ${code}, ${reason}`);
        process.stderr.write(`belay: no entry allows ${what} (${count})\n`);
      }
    });

  policy
    .command('explain')
    .description('what would happen to a call, and which policy says so')
    .argument('<method>')
    .argument('<url>')
    .option('--agent <name>', 'who acts')
    .option('--env <name>', 'the environment that it acts in')
    .option('--allow <entry...>', 'as for `belay run`')
    .option('--push <change:ref...>', 'of a git push: `create:agent/x`, `unproven:main`')
    .option('--body <json>', 'what it sends, for policies that ask for fields')
    .option('--taint <word...>', 'what the run was tainted with before')
    .option('--workdir <dir>', 'the workspace', '.')
    .option('--json', 'as JSON')
    .action(
      async (
        method: string,
        url: string,
        options: Shared & {
          agent?: string;
          env?: string;
          allow?: readonly string[];
          push?: readonly string[];
          body?: string;
          taint?: readonly string[];
        },
      ) => {
        const explanation = explain(
          await loadEngine(),
          bundleOf(options.workdir, findHome(process.env)),
          {
            agent: options.agent,
            environment: options.env,
            method,
            url,
            allow: options.allow ?? [],
            push: options.push,
            ...(options.body === undefined ? {} : { body: jsonOf(options.body) }),
            taint: options.taint,
            nowMs: Date.now(),
          },
        );
        if (options.json) return printJson('policy.explain', { ...explanation });
        const { verdict, agent, environment, effect, reasons, policies, remedy, notes } =
          explanation;
        const out = [
          `${verdict.kind}  ${agent} in ${environment}, ${effect} (${reasons.join(', ')})`,
          ...policies.map((one) => `  ${one.effect} by ${one.origin} (${one.id})`),
          ...(verdict.kind === 'deny' ? [`  ${verdict.code}: ${verdict.reason}`] : []),
          ...(remedy === null ? [] : [`  would allow it: ${remedy}`]),
          ...notes.map((note) => `  note: ${note}`),
        ];
        process.stdout.write(`${out.join('\n')}\n`);
        if (verdict.kind !== 'permit') process.exitCode = EXIT.denied;
      },
    );
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new BelayError('ERR_USAGE', '--body is not JSON', {
      hint: 'write it in quotes: `--body \'{ "amount": 20 }\'`',
    });
  }
}
