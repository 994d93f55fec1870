// Policy texts into rules: each policy with its name, its place, its syntax tree and what it reads.
// Every text is validated strictly against the schema; names of agents, environments, hosts, routes and
// taints that cannot occur are problems too, because a forbid with a typing error forbids nothing.

import type { PolicyJson } from '@cedar-policy/cedar-wasm/nodejs';
import type { PolicyText } from '../config/config.ts';
import { type Problem, positionOf, problemAt } from '../config/problem.ts';
import { didYouMean } from '../config/suggest.ts';
import { parseHost, printable } from '../core/target.ts';
import type { Engine } from './engine.ts';
import { faultsOf } from './faults.ts';
import { type Reads, readsOf } from './reads.ts';
import { idOf, typeOf } from './scope.ts';

export interface PolicySource extends PolicyText {
  /** Made from an `allow` entry; then `file` is where that entry is written. */
  readonly generated?: true;
}

export interface Rule {
  /** From `@id`, otherwise its place. */
  readonly id: string;
  readonly effect: 'permit' | 'forbid';
  /** From `@approval`: a permit that counts only once a person has approved. */
  readonly approval?: string;
  /** `policies/web.cedar:3`, or where the grant says so. */
  readonly origin: string;
  readonly text: string;
  readonly tree: PolicyJson;
  readonly reads: Reads;
}

/** Names that policies may use; without them names are not checked. */
export interface KnownNames {
  readonly agents: Iterable<string>;
  readonly environments: Iterable<string>;
  /** What the texts of these attributes can be. */
  readonly words: Readonly<Record<'routes' | 'template' | 'taint', readonly string[]>>;
}

export interface Rules {
  readonly rules: readonly Rule[];
  readonly problems: readonly Problem[];
}

export function readRules(
  engine: Engine,
  sources: readonly PolicySource[],
  schema: string,
  names?: KnownNames,
): Rules {
  const rules: Rule[] = [];
  const problems: Problem[] = [];
  const taken = new Set<string>();
  const generated = generatedFault(engine, sources, schema);
  if (generated !== undefined) return { rules, problems: [generated] };
  for (const source of sources) {
    const { file, text } = source;
    const faults = source.generated ? [] : faultsOf(engine.validate(text, schema), file, text);
    problems.push(...faults);
    if (faults.length > 0) continue;
    for (const { offset, text: policy } of splitPolicies(text)) {
      const report = (within: string, message: string, hint?: string): void => {
        const at = offset + Math.max(0, policy.indexOf(within));
        problems.push(problemAt(file, text, at, message, hint));
      };
      const tree = engine.tree(policy);
      const { line, column } = positionOf(text, offset);
      const origin = source.generated ? file : `${file}:${line}`;
      let id = tree.annotations?.id ?? origin;
      if (tree.annotations?.id === undefined && taken.has(id)) id = `${origin}:${column}`;
      if (tree.annotations !== undefined && 'id' in tree.annotations && !tree.annotations.id) {
        report('@id', '`@id` is empty', 'write it as `@id("name")`');
      }
      if (taken.has(id)) report('@id', `a second policy is named \`${printable(id)}\``);
      taken.add(id);
      const approval = approvalOf(tree, report);
      if (names !== undefined) checkNames(tree, names, report);
      rules.push({
        id,
        effect: tree.effect,
        ...(approval === undefined ? {} : { approval }),
        origin,
        text: policy,
        tree,
        reads: readsOf(tree),
      });
    }
  }
  return { rules, problems };
}

/** What we wrote ourselves is validated too, all at once: most of the cost is the schema. */
function generatedFault(
  engine: Engine,
  sources: readonly PolicySource[],
  schema: string,
): Problem | undefined {
  const ours = sources.filter((source) => source.generated);
  const [first] = ours;
  if (first === undefined) return undefined;
  const text = ours.map((source) => source.text).join('\n');
  const [fault] = faultsOf(engine.validate(text, schema), first.file, text);
  return fault && { ...fault, line: 1, column: 1 };
}

type Report = (within: string, message: string, hint?: string) => void;

function approvalOf({ annotations, effect }: PolicyJson, report: Report): string | undefined {
  if (annotations === undefined || !('approval' in annotations)) return undefined;
  const { approval } = annotations;
  if (!approval) {
    report('@approval', '`@approval` names no approval', 'write it as `@approval("name")`');
  } else if (effect === 'forbid') {
    report('@approval', '`@approval` has no meaning on a forbid', 'put it on the permit');
  }
  // An empty name is a problem above; it never counts as no annotation.
  return approval || 'unnamed';
}

function checkNames(tree: PolicyJson, names: KnownNames, report: Report): void {
  for (const { type, id } of entitiesIn(tree)) {
    const written = `${type}::${JSON.stringify(id)}`;
    if (type === 'Agent' || type === 'Environment') {
      const known = [...(type === 'Agent' ? names.agents : names.environments)];
      const word = type.toLowerCase();
      if (known.includes(id)) continue;
      const hint = didYouMean(id, known) ?? `declare it under \`${word}s\` in belay.jsonc`;
      report(written, `unknown ${word} \`${printable(id)}\``, hint);
    }
    if (type === 'Host') {
      const canonical = canonicalHost(id);
      if (canonical === id) continue;
      const hint = canonical === undefined ? undefined : `did you mean \`${canonical}\`?`;
      report(written, `no call ever has the host \`${printable(id)}\``, hint);
    }
  }
  for (const { attribute, word } of wordsIn(tree.conditions)) {
    const known = names.words[attribute];
    if (known.includes(word)) continue;
    const what = attribute === 'routes' ? 'route' : attribute;
    const hint = didYouMean(word, known) ?? 'declare it under `routes` in belay.jsonc';
    report(JSON.stringify(word), `unknown ${what} \`${printable(word)}\``, hint);
  }
}

function canonicalHost(text: string): string | undefined {
  try {
    return parseHost(text.replace(/^\*?\.|\.$/g, ''));
  } catch {
    // Not a host in any spelling: the caller reports it.
    return undefined;
  }
}

function* entitiesIn(value: unknown): Generator<{ type: string; id: string }> {
  if (typeof value !== 'object' || value === null) return;
  if (isUid(value)) {
    yield { type: typeOf(value), id: idOf(value) };
    return;
  }
  for (const inner of Object.values(value)) yield* entitiesIn(inner);
}

interface Word {
  readonly attribute: keyof KnownNames['words'];
  readonly word: string;
}

const COMPARES = new Set(['==', '!=', 'contains', 'containsAny', 'containsAll']);

/** Texts that an attribute of the context is compared with, as far as the policy writes them out. */
function* wordsIn(value: unknown): Generator<Word> {
  if (typeof value !== 'object' || value === null) return;
  for (const [form, inner] of Object.entries(value)) {
    yield* wordsIn(inner);
    if (!COMPARES.has(form)) continue;
    const { left, right } = inner as { readonly left?: unknown; readonly right?: unknown };
    const attribute = attributeOf(left) ?? attributeOf(right);
    if (attribute === undefined) continue;
    for (const word of textsIn([left, right])) yield { attribute, word };
  }
}

function attributeOf(expression: unknown): Word['attribute'] | undefined {
  const { left, attr } =
    (expression as { '.'?: { left?: unknown; attr?: unknown } } | null)?.['.'] ?? {};
  if ((left as { Var?: unknown } | undefined)?.Var !== 'context') return undefined;
  return attr === 'routes' || attr === 'template' || attr === 'taint' ? attr : undefined;
}

/** Of values and sets of them. */
function* textsIn(expressions: readonly unknown[]): Generator<string> {
  for (const expression of expressions) {
    const { Value: text, Set: members } = (expression ?? {}) as { Value?: unknown; Set?: unknown };
    if (typeof text === 'string') yield text;
    if (Array.isArray(members)) yield* textsIn(members);
  }
}

function isUid(value: object): value is { type: string; id: string } {
  const { type, id } = value as { type?: unknown; id?: unknown };
  return typeof type === 'string' && typeof id === 'string';
}

/**
 * The policies of a text that Cedar has parsed, each with its offset. Semicolons end policies and
 * occur nowhere else but in strings and comments.
 */
export function splitPolicies(text: string): readonly { offset: number; text: string }[] {
  const found: { offset: number; text: string }[] = [];
  let start: number | undefined;
  const token = /\/\/[^\n]*|"(?:[^"\\]|\\[\s\S])*"|;|\s+|[\s\S]/g;
  for (const { 0: piece, index } of text.matchAll(token)) {
    if (piece.startsWith('//') || /^\s/.test(piece)) continue;
    start ??= index;
    if (piece !== ';') continue;
    found.push({ offset: start, text: text.slice(start, index + 1) });
    start = undefined;
  }
  return found;
}
