// A mutant is a patch whose head names the checks that must catch it:
//
//   # one sentence: what this mutant breaks
//   # caught-by: net.imds net.odd-port
//   diff --git a/packages/belay/src/... b/packages/belay/src/...

import { isRequirement } from '../packages/belay/test/citations.ts';

export interface Mutant {
  readonly ids: readonly string[];
  /** Why this is no mutant. */
  readonly problem?: string;
}

export function parseMutant(text: string): Mutant {
  const head = text.split(/^(?:diff |--- )/m)[0] ?? '';
  const ids = [...head.matchAll(/^# caught-by: (.+)$/gm)].flatMap((match) =>
    (match[1] as string).split(/\s+/).filter(Boolean),
  );
  const unknown = ids.find((id) => !isRequirement(id));
  if (ids.length === 0) return { ids, problem: 'its head has no `# caught-by: ID`' };
  if (unknown !== undefined) return { ids, problem: `no requirement \`${unknown}\`` };
  if (/^\+\+\+ b\/(?!packages\/belay\/(src|bin)\/)/m.test(text)) {
    return { ids, problem: 'a mutant changes the product, never a test' };
  }
  if (!/^\+\+\+ b\//m.test(text)) return { ids, problem: 'it changes nothing' };
  return { ids };
}
