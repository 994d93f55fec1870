// What a run changed of the files that someone else executes or obeys: two surveys compared, the
// gravest first, since what is shown is bounded and an agent can change as many files as it likes.

import type { Survey } from './survey.ts';

export interface Change {
  readonly path: string;
  readonly how: 'added' | 'changed' | 'removed';
}

/** What was there before the run comes first. */
const ORDER: readonly Change['how'][] = ['changed', 'removed', 'added'];

/** What differs; only where both looked. */
export function changesBetween(before: Survey, after: Survey): readonly Change[] {
  const changes: Change[] = [];
  for (const [path, stamp] of after.executed) {
    const was = before.executed.get(path);
    if (was === undefined) changes.push({ path, how: 'added' });
    else if (was !== stamp) changes.push({ path, how: 'changed' });
  }
  if (after.whole) {
    for (const path of before.executed.keys()) {
      if (!after.executed.has(path)) changes.push({ path, how: 'removed' });
    }
  }
  const rank = ({ path, how }: Change): number =>
    (meaningOf(path) === undefined ? ORDER.length : 0) + ORDER.indexOf(how);
  return changes.sort((a, b) => rank(a) - rank(b) || (a.path < b.path ? -1 : 1));
}

/** What a path gives to whoever can write it, where that is more than one program. */
export function meaningOf(path: string): string | undefined {
  if (/(?:^|\/)\.git$/.test(path)) return 'whose settings name programs that git runs';
  // I10: where an agent could write it, the next run there must not start unread.
  if (/(?:^|\/)belay\.jsonc$|\.cedar$/.test(path)) return 'which says what a run there may do';
  return undefined;
}
