// A JSON document with comments, parsed once and strictly: every value knows where it stands, a key
// that occurs twice is a problem, and so is anything that is not JSON. Bounded in size and depth.

import {
  getNodeValue,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from 'jsonc-parser';
import { printable } from '../core/target.ts';
import { type Problem, positionsIn } from './problem.ts';

const MOST_CHARACTERS = 1 << 20;
const MOST_LEVELS = 32;
/** What follows a few faults mostly follows from them. */
const MOST_FAULTS = 20;

export type Path = readonly (string | number)[];

export interface Document {
  readonly file: string;
  readonly value: unknown;
  /** A problem at the value, or where it is missing at what should contain it. */
  problem(path: Path, message: string, hint?: string): Problem;
  /** A problem at a key. */
  problemAtKey(path: Path, message: string, hint?: string): Problem;
  /** `file:line:column` of a value. */
  origin(path: Path): string;
  has(path: Path): boolean;
}

export function parseDocument(text: string, file: string): Document | readonly Problem[] {
  const place = positionsIn(text);
  const at: At = (offset, message, hint) => ({
    file,
    ...place(offset),
    message,
    ...(hint === undefined ? {} : { hint }),
  });
  if (text.length > MOST_CHARACTERS) return [at(0, 'the file is larger than 1 MiB')];
  const faults: ParseError[] = [];
  // The parser recurses, so depth is bounded before it runs.
  const deep = tooDeep(text);
  if (deep !== undefined) return [at(deep, `more than ${MOST_LEVELS} levels of nesting`)];
  const root = parseTree(text, faults, { allowTrailingComma: true });
  if (faults.length > 0)
    return faults.slice(0, MOST_FAULTS).map((fault) => at(fault.offset, describe(fault)));
  if (root === undefined)
    return [at(0, 'the file is empty', 'delete it, or write `{ "version": 1 }`')];
  const repeated = keyProblems(root, at).take(MOST_FAULTS).toArray();
  if (repeated.length > 0) return repeated;

  const offsetOf = (path: Path, key: boolean): number => {
    const { node, missing } = find(root, path);
    if (missing || !key) return node.offset;
    return node.parent?.type === 'property' ? node.parent.offset : node.offset;
  };
  return {
    file,
    value: getNodeValue(root),
    problem: (path, message, hint) => at(offsetOf(path, false), message, hint),
    problemAtKey: (path, message, hint) => at(offsetOf(path, true), message, hint),
    origin(path) {
      const { line, column } = place(offsetOf(path, false));
      return `${file}:${line}:${column}`;
    },
    has: (path) => !find(root, path).missing,
  };
}

/** The node at a path, or the innermost one that exists on the way there. */
function find(root: Node, path: Path): { node: Node; missing: boolean } {
  let node = root;
  for (const step of path) {
    const next: Node | undefined =
      typeof step === 'number'
        ? node.children?.[step]
        : node.children?.find((child) => child.children?.[0]?.value === step)?.children?.[1];
    if (next === undefined) return { node, missing: true };
    node = next;
  }
  return { node, missing: false };
}

type At = (offset: number, message: string, hint?: string) => Problem;

function* keyProblems(node: Node, at: At): Generator<Problem> {
  const seen = new Map<string, number>();
  for (const child of node.children ?? []) {
    if (node.type === 'object') {
      const key = String(child.children?.[0]?.value);
      const first = seen.get(key);
      if (first !== undefined) {
        yield at(child.offset, `the key \`${printable(key)}\` occurs twice`, 'keep one of the two');
      } else if (key === '__proto__') {
        yield at(child.offset, 'the key `__proto__` is refused');
      }
      seen.set(key, child.offset);
      const value = child.children?.[1];
      if (value !== undefined) yield* keyProblems(value, at);
    } else {
      yield* keyProblems(child, at);
    }
  }
}

/** Where the nesting passes the bound; brackets in strings and comments count for nothing. */
function tooDeep(text: string): number | undefined {
  let level = 0;
  // What does not end is taken to the end, so that no character is read twice.
  const token = /"(?:[^"\\\n]|\\.)*"?|\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|[[\]{}]/g;
  for (const { 0: found, index } of text.matchAll(token)) {
    if (found === '{' || found === '[') level += 1;
    else if (found === '}' || found === ']') level -= 1;
    if (level > MOST_LEVELS) return index;
  }
  return undefined;
}

const FAULTS: Readonly<Record<string, string>> = {
  InvalidSymbol: 'this is not JSON',
  InvalidNumberFormat: 'this is not a number',
  PropertyNameExpected: 'a key in double quotes is expected here',
  ValueExpected: 'a value is expected here',
  ColonExpected: 'a colon is expected here',
  CommaExpected: 'a comma is expected here',
  CloseBraceExpected: 'a closing brace is missing',
  CloseBracketExpected: 'a closing bracket is missing',
  EndOfFileExpected: 'nothing may follow the closing brace',
  UnexpectedEndOfComment: 'the comment does not end',
  UnexpectedEndOfString: 'the string does not end',
  UnexpectedEndOfNumber: 'the number does not end',
  InvalidUnicode: 'a \\u escape needs four hexadecimal digits',
  InvalidEscapeCharacter: 'this escape does not exist in JSON',
  InvalidCharacter: 'a control character is not allowed in a string',
};

function describe(fault: ParseError): string {
  return FAULTS[printParseErrorCode(fault.error)] ?? 'this is not JSON';
}
