// What a demo looks like in which everything went as it should, built from the scenes themselves, so
// that a test can spoil one thing at a time.

import type { Entry } from '../../../src/core/entry.ts';
import type { ActLine } from '../../../src/demo/inside/report-line.ts';
import type { Observed } from '../../../src/demo/judge.ts';
import { type Route, SCENES, type Scene } from '../../../src/demo/scenes.ts';

const AT_MS = 1_800_000_000_000;

export function goodDemo(): Observed {
  const entries = SCENES.flatMap(entriesFor);
  return {
    entries: entries.map((entry, index) => ({ ...entry, index, ts: AT_MS + 10 }) as Entry),
    inside: new Map(
      SCENES.filter(({ act }) => act !== 'download').map((scene) => [scene.act, insideOf(scene)]),
    ),
    controls: new Map(
      SCENES.filter(({ control }) => control !== undefined).map(({ act }) => [
        act,
        line(act, { result: 'done', detail: '3 credentials' }),
      ]),
    ),
    printed: 'nothing of note',
    secrets: ['xoxb-0123456789abcdef'],
    arrivals: [],
    files: new Map([
      ['.git/hooks/pre-commit', 'as it was'],
      ['.mcp.json', 'as it was'],
      ['NOTES.md', 'changed'],
    ]),
    kill: { typedAtMs: AT_MS, processGoneMs: 40, connectionCutMs: 30, status: 5 },
  };
}

export function line(act: string, rest: Pick<ActLine, 'result' | 'detail'> & Partial<ActLine>) {
  return { kind: 'act', act, startedAtMs: AT_MS, tookMs: 1, ...rest } as const;
}

function insideOf({ act, kind, evidence }: Scene): ActLine {
  const answer = evidence.kind === 'ledger' ? evidence.answer : undefined;
  if (kind === 'honest') return line(act, { result: 'done', detail: answer ?? 'server: wrote it' });
  return line(act, { result: 'refused', errno: 'EROFS', detail: 'refused' });
}

/** Whatever else an entry has does not matter to the table. */
export type Sketch = object;

export function intentTo(act: string, { method, host, port, path }: Route): Sketch {
  const call = `call-${act}`;
  return { type: 'intent', call, method, host, port, path, policies: ['p'], credentials: [] };
}

function entriesFor({ act, kind, evidence }: Scene): readonly Sketch[] {
  if (evidence.kind === 'killed') {
    const error = { code: 'ERR_STOPPED', reason: 'killed' };
    return [
      intentTo(act, evidence.route),
      { type: 'outcome', call: `call-${act}`, receivedBytes: 1, durationMs: 5, error },
      { type: 'stop.set', detail: { state: 'killed' } },
    ];
  }
  if (evidence.kind !== 'ledger') return [];
  if (kind === 'honest') {
    const outcome = { type: 'outcome', call: `call-${act}`, status: 200, durationMs: 5 };
    return [intentTo(act, evidence.route), outcome];
  }
  const { method, host, port, path } = evidence.route;
  const told = { status: 403, message: 'denied' };
  const denial = { type: 'denial', code: 'policy.no-permit', reason: 'no policy', told };
  return [{ ...denial, method, host, port, path }];
}
