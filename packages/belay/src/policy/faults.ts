// Cedar's errors as problems of a file: at their line, once each, in our tone. Cedar counts bytes
// and names policies policy0, policy1; people count lines.

import type { DetailedError, ValidationAnswer } from '@cedar-policy/cedar-wasm/nodejs';
import { type Problem, problemAt } from '../config/problem.ts';

/** Problems of one text. Warnings count: a rule that can never apply is a mistake in a guard. */
export function faultsOf(answer: ValidationAnswer, file: string, text: string): readonly Problem[] {
  if (answer.type === 'failure') return problems(answer.errors, file, text);
  const errors = answer.validationErrors.map(({ error }) => error);
  if (errors.length > 0) return problems(errors, file, text);
  const warnings = answer.validationWarnings.map(({ error }) => error);
  return problems([...warnings, ...answer.otherWarnings], file, text);
}

function problems(
  errors: readonly DetailedError[],
  file: string,
  text: string,
): readonly Problem[] {
  const bytes = Buffer.from(text);
  // The same mistake is found once for each action; it is one mistake. Later findings at one place
  // mostly follow from the first.
  const found = new Map<number, Problem>();
  for (const { message, help, sourceLocations } of errors) {
    const where = sourceLocations?.[0];
    const offset =
      where === undefined
        ? placeOf(message, text)
        : bytes.subarray(0, where.start).toString('utf8').length;
    if (found.has(offset)) continue;
    const hint = help ?? where?.label ?? undefined;
    found.set(offset, problemAt(file, text, offset, tidy(message), hint && tidy(hint)));
  }
  return [...found.values()];
}

function placeOf(message: string, text: string): number {
  return message.includes('template') ? Math.max(0, text.search(/\?(?:principal|resource)/)) : 0;
}

function tidy(message: string): string {
  return message
    .replace(/^failed to parse policies from string: /, '')
    .replace(/^for policy `policy\d+`, /, '')
    .replace(/ (?:in context )?for Action::"[^"]*"/, ' in context')
    .replace(/^static policy set includes a template$/, 'policy templates are not supported')
    .replace(/\.$/, '');
}
