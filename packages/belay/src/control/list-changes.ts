// What the closing entry of a run says of its changes: as many as fit, the gravest first, and
// always how many there were. An agent chooses the names and the number of the files that
// it makes; neither may keep its run from being closed, or hide in silence what else it changed.

import { type Change, changesBetween } from '../sandbox/changes.ts';
import type { Survey } from '../sandbox/survey.ts';
import { type Changes, MOST_CHANGES, MOST_CHANGES_BYTES } from './protocol.ts';

/** What two looks at a workspace differ in. */
export function listChanges(before: Survey, after: Survey): Changes {
  const all = changesBetween(before, after);
  const changes: Change[] = [];
  // A list is two brackets, and one comma fewer than it has members.
  let roomBytes = MOST_CHANGES_BYTES - 1;
  for (const change of all) {
    const sizeBytes = Buffer.byteLength(JSON.stringify(change)) + 1;
    if (changes.length === MOST_CHANGES || sizeBytes > roomBytes) continue;
    roomBytes -= sizeBytes;
    changes.push(change);
  }
  return {
    changes,
    changeCount: all.length,
    unwalked: after.whole ? 0 : Math.max(1, after.unwalked),
  };
}
