// Whose refused attempts are counted, and who is stopped for them.

import { expect } from 'vitest';
import type { NetDenial } from '../../../src/core/entry.ts';
import { newRunId, type RunId } from '../../../src/core/ids.ts';
import { createRuns } from '../../../src/identity/runs.ts';
import type { Ledger } from '../../../src/ledger/ledger.ts';
import { createDenials, newDenials } from '../../../src/monitor/denials.ts';
import type { MonitoredRun } from '../../../src/monitor/facts.ts';
import { verifies } from '../../verifies.ts';

const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));

function build() {
  const runs = createRuns<MonitoredRun>(() => 0);
  const stopped: RunId[] = [];
  const denials = createDenials({
    runs,
    ledger: { append: async () => ({ index: 0 }) } as unknown as Ledger,
    onExhausted: (run) => void stopped.push(run),
    onStorm: () => {},
    clock: () => 0,
  });
  const add = (cap: number, parent?: MonitoredRun): MonitoredRun => {
    const run = {
      id: newRunId(random),
      denials: newDenials(cap, 1_000),
      ...(parent === undefined ? {} : { parent }),
    } as unknown as MonitoredRun;
    runs.add(run);
    return run;
  };
  const refuse = (run: MonitoredRun) => {
    const denial: NetDenial = { type: 'net.denial', run: run.id, host: 'x', port: 1, reason: 'r' };
    return denials.record(denial);
  };
  return { runs, stopped, add, refuse };
}

verifies(
  'identity.attenuate',
  'what a sub-run is refused stops the run whose cap is passed, unless that has ended',
  async () => {
    const { runs, stopped, add, refuse } = build();
    const parent = add(2);
    const child = add(100, parent);
    for (let i = 0; i < 2; i++) expect((await refuse(child)).written).toBe(true);
    expect(stopped).toEqual([]);
    expect((await refuse(child)).written).toBe(false);
    expect(stopped).toEqual([parent.id]);

    const ended = add(1);
    const orphan = add(2, ended);
    runs.remove(ended.id);
    for (let i = 0; i < 2; i++) expect((await refuse(orphan)).written).toBe(true);
    expect((await refuse(orphan)).written).toBe(false);
    expect(stopped).toEqual([parent.id, orphan.id]);
  },
);
