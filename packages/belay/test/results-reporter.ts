// Writes what vitest found to the file that `BELAY_RESULTS` names; prints nothing.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { SerializedError } from 'vitest';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import type { Results, TestResult } from './results.ts';

export class ResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const path = process.env.BELAY_RESULTS;
    if (path === undefined) return;
    const results: Results = {
      tree: process.env.BELAY_TREE ?? '',
      tests: modules.flatMap((module) =>
        [...module.children.allTests()].map((test) => resultOf(module, test)),
      ),
      problems: [
        ...modules.flatMap((module) =>
          suiteErrors(module).map((error) => `${module.relativeModuleId}: ${error.message}`),
        ),
        ...unhandledErrors.map((error) => `unhandled: ${error.message}`),
      ],
    };
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify(results, null, 1)}\n`);
  }
}

function suiteErrors(module: TestModule): readonly { readonly message: string }[] {
  return [
    ...module.errors(),
    ...[...module.children.allSuites()].flatMap((suite) => suite.errors()),
  ];
}

function resultOf(module: TestModule, test: TestCase): TestResult {
  const result = test.result();
  const durationMs = Math.round(test.diagnostic()?.duration ?? 0);
  const head = { file: module.relativeModuleId, name: test.fullName, durationMs };
  if (result.state === 'skipped') {
    return {
      ...head,
      state: 'skipped',
      ...(result.note === undefined ? {} : { reason: result.note }),
    };
  }
  // A test that never ended is one that failed.
  return { ...head, state: result.state === 'passed' ? 'passed' : 'failed' };
}
