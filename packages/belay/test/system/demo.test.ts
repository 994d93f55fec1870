// The demo as a user runs it, as root and as an ordinary uid: every act stopped, every honest step
// done, the report written, and nothing left behind.

import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { DemoResult } from '../../src/demo/demo.ts';
import { SCENES } from '../../src/demo/scenes.ts';
import { ORDINARY_UID, openSession, otherUidProblem } from '../installed.ts';
import { verifies } from '../verifies.ts';

const LONGEST_MS = 60_000;

async function demo(uid?: number): Promise<void> {
  await using session = await openSession(uid === undefined ? {} : { uid });
  // Short: the demo keeps a unix socket below it. Passable: started as root, the agent is another.
  const scratch = mkdtempSync('/tmp/belay-');
  chmodSync(scratch, 0o755);
  if (uid !== undefined) chownSync(scratch, uid, uid);
  try {
    const report = join(session.workdir, 'report.html');
    const done = await session.belay(['demo', '--json', '--report', report], {
      env: { TMPDIR: scratch },
      timeoutMs: LONGEST_MS,
    });
    const words = `${done.stderr}\n${done.stdout}`;
    expect(done.status, words).toBe(0);
    const result = JSON.parse(done.stdout) as DemoResult & { readonly report: string };
    expect(result).toMatchObject({ ok: true, arrivals: [], verified: { ok: true }, report });
    expect(result.rows.map(({ scene }) => scene.act)).toEqual(SCENES.map(({ act }) => act));
    for (const { scene, ok, source, tookMs } of result.rows) {
      expect(ok, scene.act).toBe(true);
      expect(tookMs, scene.act).toBeGreaterThanOrEqual(0);
      const crosses = scene.evidence.kind === 'ledger' || scene.evidence.kind === 'killed';
      expect(source.startsWith('ledger '), scene.act).toBe(crosses);
    }
    const html = readFileSync(report, 'utf8');
    expect(html).toContain(result.run);
    expect(html).not.toMatch(/<script|<b>No unusual/);
    // Whole credentials, made up as they are, stand nowhere.
    expect(html + done.stdout).not.toMatch(/(?:ghp_|xoxb-|sk-ant-)[0-9a-f]{16}/);
    expect(readdirSync(scratch), 'left behind').toEqual([]);
    expect(existsSync(join(session.home, 'ledger')), 'the demo has a home of its own').toBe(false);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

verifies(
  'demo.story',
  'every act is stopped, every honest step is done, and a report is left and nothing else',
  () => demo(),
  { timeoutMs: 2 * LONGEST_MS },
);

verifies('demo.story', 'an ordinary uid sees the same demo as root', () => demo(ORDINARY_UID), {
  timeoutMs: 2 * LONGEST_MS,
  skip: otherUidProblem(),
});
