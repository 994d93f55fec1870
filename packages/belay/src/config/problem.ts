// A problem in a file that a person wrote: where it is, what is wrong, and what to do. Lines and
// columns count from 1, columns in UTF-16 units, as editors show them.

import { BelayError } from '../core/errors.ts';

export interface Problem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Lower case, no final period, the user's input in backticks. */
  readonly message: string;
  readonly hint?: string;
}

/** The problem at an offset of a text, counted in UTF-16 units. */
export function problemAt(
  file: string,
  text: string,
  offset: number,
  message: string,
  hint?: string,
): Problem {
  const { line, column } = positionOf(text, offset);
  return { file, line, column, message, ...(hint === undefined ? {} : { hint }) };
}

export interface Position {
  readonly line: number;
  readonly column: number;
}

export function positionOf(text: string, offset: number): Position {
  return positionsIn(text)(offset);
}

/** Positions in one text: the lines are counted once. */
export function positionsIn(text: string): (offset: number) => Position {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((starts[middle] as number) <= offset) low = middle;
      else high = middle;
    }
    return { line: low + 1, column: offset - (starts[low] as number) + 1 };
  };
}

/** `file:line:column: message`, as compilers write it. */
export function problemLine({ file, line, column, message }: Problem): string {
  return `${file}:${line}:${column}: ${message}`;
}

export function inOrder(problems: readonly Problem[]): readonly Problem[] {
  return problems.toSorted(
    (a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.column - b.column,
  );
}

/** ERR_CONFIG for the first of the problems; the message says how many follow. */
export function configError(problems: readonly Problem[]): BelayError {
  const [first, ...rest] = inOrder(problems);
  if (first === undefined) throw new TypeError('an error needs a problem');
  const more = rest.length === 0 ? '' : ` (and ${rest.length} more)`;
  return new BelayError(
    'ERR_CONFIG',
    `${problemLine(first)}${more}`,
    first.hint === undefined ? {} : { hint: first.hint },
  );
}
