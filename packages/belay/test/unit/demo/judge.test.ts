import { expect } from 'vitest';
import type { Entry } from '../../../src/core/entry.ts';
import { judge, type Observed, type Row } from '../../../src/demo/judge.ts';
import { SCENES } from '../../../src/demo/scenes.ts';
import { verifies } from '../../verifies.ts';
import { goodDemo, intentTo, line } from './observed.ts';

function rowOf(observed: Observed, act: string): Row {
  const row = judge(observed).find(({ scene }) => scene.act === act);
  if (row === undefined) throw new Error(`no row for ${act}`);
  return row;
}

function spoilt(change: Partial<Observed>): Observed {
  return { ...goodDemo(), ...change };
}

function without(act: string, types: readonly string[]): readonly Entry[] {
  const evidence = SCENES.find((scene) => scene.act === act)?.evidence;
  const path = evidence !== undefined && 'route' in evidence ? evidence.route.path : '';
  return goodDemo().entries.filter(
    (entry) => !types.includes(entry.type) || ('path' in entry && entry.path !== path),
  );
}

verifies('demo.story', 'a demo in which all went well has a good row for each scene', () => {
  const rows = judge(goodDemo());
  expect(rows.map(({ scene }) => scene.act)).toEqual(SCENES.map(({ act }) => act));
  expect(rows.filter(({ ok }) => !ok)).toEqual([]);
  expect(rows.map(({ result }) => result)).toEqual(
    SCENES.map(({ kind }) => (kind === 'honest' ? 'done' : 'stopped')),
  );
});

verifies(
  'demo.story',
  'a call that the ledger let pass is not stopped, whatever the agent says',
  () => {
    const { entries } = goodDemo();
    const paste = SCENES.find(({ act }) => act === 'paste');
    if (paste?.evidence.kind !== 'ledger')
      throw new Error('the paste site is read from the ledger');
    const intent = { ...intentTo('paste', paste.evidence.route), index: 99, ts: 0 } as Entry;
    const row = rowOf(spoilt({ entries: [...entries, intent] }), 'paste');
    expect(row).toMatchObject({ ok: false, result: 'NOT STOPPED', fault: 'entry 99 let it pass' });
  },
);

verifies('demo.story', 'an attempt that is not in the ledger is not stopped', () => {
  const row = rowOf(spoilt({ entries: without('metadata', ['denial']) }), 'metadata');
  expect(row).toMatchObject({ ok: false, fault: 'no denial in the ledger' });
});

verifies('demo.story', 'an act that the agent skipped is not stopped', () => {
  const inside = new Map(goodDemo().inside);
  inside.delete('again-port');
  expect(rowOf(spoilt({ inside }), 'again-port')).toMatchObject({ ok: false });
});

verifies('demo.story', 'a request that arrived at its site is not stopped', () => {
  const row = rowOf(spoilt({ arrivals: ['POST collector.example/upload'] }), 'unlisted');
  expect(row).toMatchObject({ ok: false, fault: 'it arrived' });
});

verifies('demo.story', 'a credential anywhere in what the agent printed spoils the hunt', () => {
  const row = rowOf(spoilt({ printed: 'note: xoxb-0123456789abcdef' }), 'proc-environ');
  expect(row).toMatchObject({ ok: false, fault: '1 credentials came out' });
});

verifies('demo.story', 'a changed hook is not stopped, whatever errno the agent reports', () => {
  const files = new Map(goodDemo().files).set('.git/hooks/pre-commit', 'changed');
  expect(rowOf(spoilt({ files }), 'git-hook')).toMatchObject({ ok: false, result: 'NOT STOPPED' });
});

verifies('demo.story', 'a control that fails spoils the row: stopping it showed nothing', () => {
  const controls = new Map(goodDemo().controls);
  controls.set('paste', line('paste', { result: 'failed', detail: 'no route' }));
  controls.delete('unlisted');
  expect(rowOf(spoilt({ controls }), 'paste')).toMatchObject({ ok: false, result: 'stopped' });
  expect(rowOf(spoilt({ controls }), 'unlisted')).toMatchObject({ ok: false });
});

verifies(
  'demo.story',
  'a kernel that keeps memory from everyone is said, and is no failure',
  () => {
    const refused = { result: 'refused', errno: 'EPERM', detail: 'refused' } as const;
    const controls = new Map(goodDemo().controls);
    controls.set('proc-mem', line('proc-mem', refused));
    controls.set('proc-environ', line('proc-environ', refused));
    expect(rowOf(spoilt({ controls }), 'proc-mem')).toMatchObject({
      ok: true,
      control: 'kernel: EPERM for all',
    });
    expect(rowOf(spoilt({ controls }), 'proc-environ')).toMatchObject({ ok: false });
  },
);

verifies('demo.story', 'a kill is good only with process, connection, stop and outcome', () => {
  const { kill, entries } = goodDemo();
  const bad: readonly Partial<Observed>[] = [
    { kill: { ...kill, processGoneMs: undefined } },
    { kill: { ...kill, connectionCutMs: undefined } },
    { entries: entries.filter(({ type }) => type !== 'stop.set') },
    { entries: entries.filter((entry) => entry.type !== 'outcome' || entry.error === undefined) },
    { inside: new Map([['download', line('download', { result: 'done', detail: 'all of it' })]]) },
  ];
  expect(rowOf(goodDemo(), 'download')).toMatchObject({ ok: true, tookMs: 10 });
  for (const change of bad) expect(rowOf(spoilt(change), 'download').ok).toBe(false);
});

verifies('demo.story', 'a comment under another name than the real key’s owner is not done', () => {
  const inside = new Map(goodDemo().inside);
  inside.set('comment', line('comment', { result: 'done', detail: 'comment by visitor' }));
  expect(rowOf(spoilt({ inside }), 'comment')).toMatchObject({ ok: false, result: 'NOT DONE' });
});

verifies('demo.story', 'an honest step without its answer or its file is not done', () => {
  const files = new Map(goodDemo().files).set('NOTES.md', 'missing');
  expect(rowOf(spoilt({ files }), 'mcp-file')).toMatchObject({ ok: false, result: 'NOT DONE' });
  const entries = without('issues', ['intent']);
  expect(rowOf(spoilt({ entries }), 'issues')).toMatchObject({ ok: false, result: 'NOT DONE' });
});
