// A test that shows a requirement cites its id, so that the manifest and the tests stay in step.

import { type TestContext, test } from 'vitest';
import type { RequirementId } from './requirements.ts';

export interface VerifyOptions {
  readonly timeoutMs?: number;
  /** A reason why this host cannot run the test; printed in the summary, never silent. */
  readonly skip?: string | false | undefined;
}

/** Declares a test for one or several requirements. The name is a sentence about behaviour. */
export function verifies(
  ids: RequirementId | readonly RequirementId[],
  sentence: string,
  body: (context: TestContext) => Promise<void> | void,
  options: VerifyOptions = {},
): void {
  const cited = typeof ids === 'string' ? [ids] : ids;
  const name = `[${cited.join(' ')}] ${sentence}`;
  const { skip, timeoutMs = 10_000 } = options;
  test(name, { timeout: timeoutMs }, async (context) => {
    if (skip) context.skip(skip);
    await body(context);
  });
}
