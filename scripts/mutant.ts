// A mutant is a patch whose head names the checks that must catch it:
//
//   # one sentence: what this mutant breaks
//   # caught-by: net.imds net.odd-port
//   # in: system/containment.test.ts
//   diff --git a/packages/belay/src/... b/packages/belay/src/...
//
// `in` is optional: the test files that have to catch it, where not every file that cites an id does.

import { isRequirement } from '../packages/belay/test/citations.ts';

export interface Mutant {
  readonly ids: readonly string[];
  /** Below the test folder; empty: every file that cites an id. */
  readonly files: readonly string[];
  /** Why this is no mutant. */
  readonly problem?: string;
}

export function parseMutant(text: string): Mutant {
  const head = text.split(/^(?:diff |--- )/m)[0] ?? '';
  const words = (key: string): readonly string[] =>
    [...head.matchAll(new RegExp(`^# ${key}: (.+)$`, 'gm'))].flatMap((match) =>
      (match[1] as string).split(/\s+/).filter(Boolean),
    );
  const ids = words('caught-by');
  const files = words('in');
  const unknown = ids.find((id) => !isRequirement(id));
  if (ids.length === 0) return { ids, files, problem: 'its head has no `# caught-by: ID`' };
  if (unknown !== undefined) return { ids, files, problem: `no requirement \`${unknown}\`` };
  if (/^\+\+\+ b\/(?!packages\/belay\/(src|bin)\/)/m.test(text)) {
    return { ids, files, problem: 'a mutant changes the product, never a test' };
  }
  if (!/^\+\+\+ b\//m.test(text)) return { ids, files, problem: 'it changes nothing' };
  return { ids, files };
}
