import { expect } from 'vitest';
import { listChanges } from '../../../src/control/list-changes.ts';
import { closeRun, MOST_REASON } from '../../../src/control/protocol.ts';
import { encodeEntry } from '../../../src/core/entry-bytes.ts';
import { excerpt } from '../../../src/core/excerpt.ts';
import { MAX_PAYLOAD_BYTES } from '../../../src/core/frame.ts';
import type { EntryId, RunId } from '../../../src/core/ids.ts';
import type { Survey } from '../../../src/sandbox/survey.ts';
import { verifies } from '../../verifies.ts';

const survey = (paths: readonly string[], stamp = 'a', unwalked = 0): Survey => ({
  repositories: [],
  executed: new Map(paths.map((path) => [path, stamp])),
  unwalked,
  whole: unwalked === 0,
  sockets: [],
  pipes: [],
});
const names = (count: number, of: (i: number) => string): readonly string[] =>
  Array.from({ length: count }, (_, i) => of(i));

verifies(
  'fsw.changes',
  'what an agent adds pushes nothing off the list that was there before, and all are counted',
  () => {
    const before = survey(['Makefile', 'setup.py']);
    const after = survey(
      names(300, (i) => `A${i}.sh`),
      'b',
    );
    const found = listChanges(before, {
      ...after,
      executed: new Map([...after.executed, ['Makefile', 'b']]),
    });
    expect(found.changes.slice(0, 3)).toEqual([
      { path: 'Makefile', how: 'changed' },
      { path: 'setup.py', how: 'removed' },
      { path: 'A0.sh', how: 'added' },
    ]);
    expect(found).toMatchObject({ changeCount: 302, unwalked: 0 });
    expect(found.changes).toHaveLength(200);
    expect(listChanges(before, survey(['Makefile'], 'b', 7))).toEqual({
      changes: [{ path: 'Makefile', how: 'changed' }],
      changeCount: 1,
      unwalked: 7,
    });
  },
);

verifies('fsw.changes', 'no name that an agent can choose makes a run impossible to close', () => {
  for (const letter of ['a', 'é', '\u0001', '"', '\ufffd']) {
    const after = survey(names(17, (i) => `${letter.repeat(3900)}${i}.sh`));
    const changes = listChanges(survey([]), after);
    const reason = excerpt(`x${letter.repeat(9000)}`, MOST_REASON);
    expect(closeRun.parse({ status: 0, reason, changes }).changes, letter).toEqual(changes);
    expect(changes.changes.length).toBeGreaterThan(0);
    expect(changes.changeCount).toBe(17);
    const run = 'r-23456789' as RunId;
    const entry = {
      ...{ v: 1 as const, id: 'e' as EntryId, index: 1, ts: 1, seq: 1 },
      ...{ type: 'run.close' as const, run, reason, ...changes, calls: 1, denials: 1, bytes: 1 },
    };
    expect(encodeEntry(entry).length).toBeLessThan(MAX_PAYLOAD_BYTES);
  }
  const beyond = { path: 'a'.repeat(4000), how: 'added' };
  const changes = { changes: Array(9).fill(beyond), changeCount: 9, unwalked: 0 };
  expect(closeRun.safeParse({ reason: 'ended', changes }).success).toBe(false);
});
