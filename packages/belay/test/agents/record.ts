// What holds for every agent, whoever made it: the ledger has each call that the model's own journal
// has and no other, and the real key is in no file.

import { join } from 'node:path';
import { expect } from 'vitest';
import type { Entry } from '../../src/core/entry.ts';
import type { Place, RunResult } from '../system/place.ts';
import type { Upstream } from '../system/upstreams.ts';

export async function expectWholeRecord(
  place: Place,
  model: Upstream,
  run: RunResult,
  realKey: string,
): Promise<readonly Entry[]> {
  const { session, workdir } = place;
  const entries = await place.entries(run.summary?.run);
  const journal = model.arrivals.map(({ method, url }) => `${method} ${url.split('?', 1)[0]}`);
  const intents = entries.flatMap((entry) =>
    entry.type === 'intent' ? [`${entry.method} ${entry.path}`] : [],
  );
  expect(intents.sort()).toEqual(journal.sort());
  expect(entries.filter(({ type }) => type === 'outcome')).toHaveLength(intents.length);
  expect((await session.belay(['log', 'verify'])).status).toBe(0);
  const search = ['grep', '-rla', realKey, workdir, join(session.home)];
  expect((await session.exec(search)).stdout, 'files with the real key').toBe('');
  return entries;
}
