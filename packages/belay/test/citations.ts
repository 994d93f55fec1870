// Which tests cite which requirements, read from the files without running them. A `verifies()` call
// names its ids in place; in a file that calls it in a loop, every requirement that the file quotes
// counts. A script names them in a comment: `# verifies: id id`.

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { requirements } from './requirements.ts';

export interface Citation {
  readonly id: string;
  /** Path below the test folder. */
  readonly file: string;
}

const KNOWN: ReadonlySet<string> = new Set(Object.keys(requirements));

export function isRequirement(id: string): boolean {
  return KNOWN.has(id);
}

/** Every citation below `folder`, known id or not. */
export function citationsBelow(folder: string): readonly Citation[] {
  const files = globSync('**/*.{test.ts,txt}', { cwd: folder })
    .filter((file) => !file.includes('node_modules'))
    .sort();
  return files.flatMap((file) => {
    const text = readFileSync(join(folder, file), 'utf8');
    const ids = file.endsWith('.txt') ? idsOfScript(text) : idsOfTest(text);
    return [...new Set(ids)].map((id) => ({ id, file }));
  });
}

export function idsOfScript(text: string): readonly string[] {
  const [, list = ''] = /^# verifies: (.+)$/m.exec(text) ?? [];
  return list.split(/\s+/).filter(Boolean);
}

export function idsOfTest(text: string): readonly string[] {
  const found: string[] = [];
  for (const [, first = ''] of text.matchAll(/\bverifies\(\s*(\[[^\]]*\]|'[^']*'|[^\s,]+)/g)) {
    if (/^[['"]/.test(first)) found.push(...quoted(first));
    else found.push(...quoted(text).filter(isRequirement));
  }
  return found;
}

function quoted(text: string): string[] {
  return [...text.matchAll(/'([^'\n]*)'/g)].map((match) => match[1] as string);
}
