// The desk of runs when things happen at once: kills while the disk stands, and closes and kills of runs
// that are not open yet.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, expect } from 'vitest';
import type { OpenRun } from '../../../src/control/protocol.ts';
import { createRunDesk, type RunDeskParts } from '../../../src/control/run-desk.ts';
import type { RunId } from '../../../src/core/ids.ts';
import { createProxyTokens } from '../../../src/identity/proxy-tokens.ts';
import { createRuns } from '../../../src/identity/runs.ts';
import { createStops } from '../../../src/stop/stops.ts';
import { verifies } from '../../verifies.ts';

const LISTENER = '127.0.0.1:4000';
const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A desk whose gateway and disk wait for the test. */
function deskWith(containment: OpenRun['containment']) {
  const run = mkdtempSync(join(tmpdir(), 'belay-desk-'));
  folders.push(run);
  const attached = Promise.withResolvers<void>();
  const disk = { stands: false, goesOn: Promise.withResolvers<void>() };
  const guard = { gone: false };
  const [entries, frozen, detached, notices]: [string[], string[], string[], string[]] = [
    [],
    [],
    [],
    [],
  ];
  const runs: RunDeskParts['runs'] = createRuns(Date.now);
  const tokens = createProxyTokens(random, Date.now);
  let issued: { readonly id: RunId; readonly token: string } | undefined;
  const parts = {
    home: { run },
    runs,
    tokens,
    stops: createStops(),
    gateway: {
      attachRun: async ({ run: id }: { run: RunId }) => {
        await attached.promise;
        return { detach: async () => void detached.push(id) };
      },
      cutRun() {},
    },
    ledger: {
      append: async ({ type }: { type: string }) => {
        entries.push(type);
        if (disk.stands) await disk.goesOn.promise;
        return { index: entries.length };
      },
      size: () => entries.length,
    },
    guard: {
      kill({ id }: { id: RunId }) {
        if (guard.gone) throw new Error('the guard is gone');
        frozen.push(id);
        return Promise.resolve();
      },
    },
    logins: { opened() {}, leave: async () => {} },
    proxyFor: async ({ id }: { id: RunId }) => {
      const token = tokens.issue(id, LISTENER);
      issued = { id, token };
      await turn();
      return { host: '127.0.0.1', port: 4000, token };
    },
    prepare: (_request: OpenRun, id: RunId, notify: unknown) => ({
      ...{ id, containment, notify, guarded: true, state: 'open', startedAt: 0 },
      grant: { agent: 'a', environment: 'e', mode: 'live', state: 'active' },
      scopes: [{ kind: 'run', name: id }],
      opened: { kind: 'opened', run: id },
      tally: { counts: () => ({ calls: 0, denials: 0, bytes: 0 }), lines: () => [] },
      release() {},
    }),
    ...{ clock: Date.now, random, onBusy() {}, onIdle() {}, onEntry() {} },
  } as unknown as RunDeskParts;
  const desk = createRunDesk(parts);
  const request = { allow: [], paths: { read: [], write: [] }, ports: [] } as unknown as OpenRun;
  const open = () => desk.open(request, ({ kind }) => void notices.push(kind));
  const usable = (): boolean =>
    issued !== undefined && tokens.check(LISTENER, issued.id, issued.token) !== null;
  const left = { entries, frozen, detached, notices, usable, run };
  return { desk, runs, open, attached, disk, guard, ...left };
}

verifies(
  'run.kill',
  'a kill of many freezes all of them, however long the disk takes',
  async () => {
    const { desk, open, attached, disk, frozen } = deskWith('sandbox');
    attached.resolve();
    const opened = [await open(), await open(), await open()];
    disk.stands = true;
    void desk.kill({ all: true }, 'enough');
    await turn();
    expect(frozen).toEqual(opened);
  },
);

verifies(
  'run.kill',
  'a kill without a guard stops the run all the same, and is noted',
  async () => {
    const { desk, runs, open, attached, guard, entries } = deskWith('sandbox');
    attached.resolve();
    await open();
    guard.gone = true;
    await desk.kill({ all: true }, 'enough');
    expect(entries).toEqual(['run.open', 'stop.set']);
    expect(runs.list()[0]?.state).toBe('stopped');
  },
);

verifies(
  'run.kill',
  'a run that is closed or killed while it opens leaves nothing behind',
  async () => {
    for (const how of ['close', 'kill'] as const) {
      const { desk, runs, open, attached, ...left } = deskWith('external');
      const opening = open();
      await turn();
      const id = runs.list()[0]?.id as RunId;
      const ended = how === 'close' ? desk.close(id, { reason: 'x' }) : desk.kill({ run: id }, 'x');
      await ended;
      attached.resolve();
      const why = how === 'close' ? 'was closed before it was open' : 'was killed: x';
      await expect(opening).rejects.toMatchObject({ code: 'ERR_STOPPED', message: `${id} ${why}` });
      expect(left.entries).toEqual(how === 'close' ? [] : ['stop.set']);
      expect(left.detached).toEqual([id]);
      expect(left.usable()).toBe(false);
      expect(left.notices).not.toContain('opened');
      expect(readdirSync(left.run)).toEqual([]);
      expect(runs.list()).toEqual([]);
    }
    // Later: the token was issued already.
    const { desk, runs, open, attached, ...left } = deskWith('external');
    attached.resolve();
    const opening = open();
    opening.catch(() => {});
    for (let i = 0; i < 100 && !left.usable(); i += 1) await Promise.resolve();
    expect(left.usable()).toBe(true);
    await desk.close(runs.list()[0]?.id as RunId, { reason: 'x' });
    await expect(opening).rejects.toMatchObject({ code: 'ERR_STOPPED' });
    expect(left.entries).toEqual(['run.open', 'run.close']);
    expect(left.usable()).toBe(false);
    expect(left.notices).toEqual([]);
  },
);

verifies(
  'daemon.down',
  'a desk that is shut opens nothing, and settles when every close has ended',
  async () => {
    const { desk, open, attached, disk, entries } = deskWith('sandbox');
    attached.resolve();
    const id = await open();
    desk.shut();
    await expect(open()).rejects.toMatchObject({ message: 'the daemon ends, and opens no run' });
    disk.stands = true;
    void desk.close(id, { reason: 'x' });
    let settled = false;
    void desk.settled().then(() => (settled = true));
    for (let i = 0; i < 5; i += 1) await turn();
    expect(entries).toEqual(['run.open', 'run.close']);
    expect(settled).toBe(false);
    disk.goesOn.resolve();
    await desk.settled();
  },
);
