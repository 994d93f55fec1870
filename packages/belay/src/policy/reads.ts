// Which attributes of the context a policy reads, from its syntax tree: what a cached decision has
// to be keyed on. Anything that is not plain attribute access counts as reading all of it.

import type { PolicyJson } from '@cedar-policy/cedar-wasm/nodejs';

export type Reads = ReadonlySet<string> | 'all';

export function readsOf(policy: PolicyJson): Reads {
  const found = new Set<string>();
  const all = policy.conditions.some(({ body }) => !collect(body, found));
  return all ? 'all' : found;
}

export function unionOf(several: readonly Reads[]): Reads {
  const union = new Set<string>();
  for (const reads of several) {
    if (reads === 'all') return 'all';
    for (const attribute of reads) union.add(attribute);
  }
  return union;
}

/** False as soon as the context is used as a whole, or a form is met that we do not know. */
function collect(expression: unknown, found: Set<string>): boolean {
  if (typeof expression !== 'object' || expression === null) return false;
  const [entry, ...rest] = Object.entries(expression);
  if (entry === undefined || rest.length > 0) return false;
  const [form, inner] = entry as [string, unknown];
  switch (form) {
    case 'Value':
      return true;
    case 'Var':
      return inner !== 'context';
    case '.':
    case 'has': {
      const { left, attr } = inner as { left: unknown; attr: string | readonly string[] };
      if (!isContext(left)) return collect(left, found);
      const first = typeof attr === 'string' ? attr : attr[0];
      if (first === undefined) return false;
      found.add(first);
      return true;
    }
    case 'like':
    case 'is': {
      const { left, in: within } = inner as { left: unknown; in?: unknown };
      return collect(left, found) && (within === undefined || collect(within, found));
    }
    case 'Set':
      return collectAll(inner, found);
    case 'Record':
      return collectAll(Object.values(inner as object), found);
    default:
      // Operators hold their operands by name, extension functions hold a list of arguments.
      return collectAll(Array.isArray(inner) ? inner : Object.values(inner as object), found);
  }
}

function collectAll(expressions: unknown, found: Set<string>): boolean {
  return (
    Array.isArray(expressions) && expressions.every((expression) => collect(expression, found))
  );
}

function isContext(expression: unknown): boolean {
  return (
    typeof expression === 'object' &&
    expression !== null &&
    (expression as { Var?: unknown }).Var === 'context'
  );
}
