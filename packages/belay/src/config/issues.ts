// What zod found, in our words: one problem for each issue, at the key or value that it is about,
// with the known keys and values as suggestions. Values are never repeated where a secret may
// stand by mistake.

import { z } from 'zod';
import { printable } from '../core/target.ts';
import type { Document, Path } from './document.ts';
import type { Problem } from './problem.ts';
import { didYouMean } from './suggest.ts';

type Issue = z.core.$ZodIssue;

const MOST_ISSUES = 100;

/** Problems of a document against a schema; the JSON Schema supplies the known keys. */
export function issueProblems(
  document: Document,
  issues: readonly Issue[],
  schema: z.ZodType,
): readonly Problem[] {
  const json = z.toJSONSchema(schema, { io: 'input' }) as JsonSchema;
  return issues.slice(0, MOST_ISSUES).flatMap((issue) => [...explain(document, issue, [], json)]);
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | false;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
}

function* explain(
  document: Document,
  issue: Issue,
  above: Path,
  json: JsonSchema,
): Generator<Problem> {
  const path: Path = [...above, ...issue.path.map((step) => step as string | number)];
  const last = path.at(-1);
  const subject = last === undefined ? 'the file' : `\`${printable(nameOf(path))}\``;
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = keysAt(json, path);
      for (const key of issue.keys.slice(0, MOST_ISSUES)) {
        const hint = didYouMean(key, known) ?? listOf('the keys here are', known);
        yield document.problemAtKey([...path, key], `unknown key \`${printable(key)}\``, hint);
      }
      return;
    }
    case 'invalid_key':
      yield document.problemAtKey(
        path,
        `${subject} is not a name`,
        'a name has 1 to 63 letters, digits, `.`, `_` and `-`, and starts with a letter or digit',
      );
      return;
    case 'invalid_union': {
      const branch = branchOf(issue.errors);
      for (const inner of branch) yield* explain(document, inner, path, json);
      if (branch.length === 0) yield document.problem(path, `${subject} has a wrong value`);
      return;
    }
    case 'invalid_value': {
      const values = issue.values.map((value) =>
        typeof value === 'string' ? value : JSON.stringify(value),
      );
      const allowed = values.map((value) => `\`${value}\``).join(' or ');
      if (!document.has(path))
        yield document.problem(path, `${subject} is missing`, `write ${allowed}`);
      else yield document.problem(path, `${subject} must be ${allowed}`);
      return;
    }
    case 'invalid_type':
      if (!document.has(path)) yield document.problem(path, `${subject} is missing`);
      else
        yield document.problem(
          path,
          `${subject} must be ${KINDS[issue.expected] ?? issue.expected}`,
        );
      return;
    case 'too_small':
      yield document.problem(
        path,
        issue.origin === 'array'
          ? `${subject} is empty`
          : `${subject} must be at least ${issue.minimum}`,
      );
      return;
    case 'too_big':
      yield document.problem(path, `${subject} must be at most ${issue.maximum}`);
      return;
    default:
      yield document.problem(path, `${subject} ${issue.message}`);
  }
}

const KINDS: Readonly<Record<string, string>> = {
  object: 'an object',
  record: 'an object',
  array: 'a list',
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: '`true` or `false`',
};

/** `grants[0].mode` */
function nameOf(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    return text === '' ? step : `${text}.${step}`;
  }, '');
}

/** The branch of a union that fits best: one whose own kind is right. */
function branchOf(branches: readonly (readonly Issue[])[]): readonly Issue[] {
  const inside = branches.find((issues) =>
    issues.every(({ code, path }) => path.length > 0 || code === 'unrecognized_keys'),
  );
  return inside ?? branches.at(-1) ?? [];
}

function keysAt(json: JsonSchema, path: Path): readonly string[] {
  let here: readonly JsonSchema[] = [json];
  for (const step of path) {
    here = here.flatMap(spread).flatMap((schema) => {
      const next =
        typeof step === 'number'
          ? schema.items
          : ((schema.properties && Object.hasOwn(schema.properties, step)
              ? schema.properties[step]
              : undefined) ??
            (schema.additionalProperties || undefined));
      return next === undefined ? [] : [next];
    });
  }
  return here.flatMap(spread).flatMap(({ properties }) => Object.keys(properties ?? {}));
}

function spread(schema: JsonSchema): readonly JsonSchema[] {
  return schema.anyOf === undefined ? [schema] : [schema, ...schema.anyOf.flatMap(spread)];
}

function listOf(lead: string, names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined;
  return `${lead} ${names.map((name) => `\`${name}\``).join(', ')}`;
}
