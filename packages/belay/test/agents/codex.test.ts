// Codex as npm delivers it, through every layer, like Claude Code: it tries a WebSocket first, asks
// hosts that nobody granted, and its own sandbox is off in here.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect } from 'vitest';
import { ORDINARY_UID, otherUidProblem } from '../installed.ts';
import { denials, openPlace } from '../system/place.ts';
import { startUpstream } from '../system/upstreams.ts';
import { verifies } from '../verifies.ts';
import { AGENTS, installAgents } from './install.ts';
import { expectWholeRecord } from './record.ts';
import { speakAsResponses } from './scripted-responses.ts';

const HOST = 'api.openai.com';
const COMMAND = 'env > env.txt; echo written by a tool call > out.txt';

let bin: string;

beforeAll(() => {
  bin = installAgents(AGENTS);
}, 600_000);

async function throughEveryLayer(uid?: number): Promise<void> {
  const realKey = `sk-${randomBytes(24).toString('hex')}`;
  await using model = await startUpstream([HOST]);
  speakAsResponses(model, COMMAND);
  await using place = await openPlace(
    {
      agent: 'codex',
      allow: ['model:openai'],
      upstreams: { [HOST]: model },
      credentials: {
        openai: {
          from: 'env:CODEX_API_KEY',
          environment: 'local',
          host: HOST,
          methods: ['GET', 'POST'],
          paths: ['/v1/**'],
          header: 'authorization',
          format: 'Bearer {}',
          variable: 'CODEX_API_KEY',
        },
      },
    },
    uid === undefined ? {} : { uid },
  );
  const env = { CODEX_API_KEY: realKey, PATH: `${bin}:${place.session.env.PATH}` };
  const flags = ['--skip-git-repo-check', '--sandbox', 'danger-full-access', '-m', 'scripted'];
  const command = ['codex', 'exec', ...flags, 'Write out.txt.'];
  const run = await place.run(['--agent', 'codex'], command, { env, timeoutMs: 120_000 });

  expect(run.stderr).not.toContain('belay: error');
  expect(run.status, run.stderr).toBe(0);
  expect(readFileSync(join(place.workdir, 'out.txt'), 'utf8')).toBe('written by a tool call\n');
  expect(readFileSync(join(place.workdir, 'env.txt'), 'utf8')).not.toMatch(/_proxy=/i);
  const inference = model.arrivals.filter(({ method, url }) => {
    return method === 'POST' && url.startsWith('/v1/responses');
  });
  expect(inference.length).toBeGreaterThanOrEqual(2);
  for (const { headers } of inference) expect(headers.authorization).toBe(`Bearer ${realKey}`);

  const entries = await expectWholeRecord(place, model, run, realKey);
  // What it asks elsewhere is refused and listed; its key, which it sends along, stays a placeholder.
  const refused = new Set(denials(entries).map(({ host }) => host));
  expect([...refused]).toContain('chatgpt.com');
  expect(run.summary?.denied.map(({ host }) => host)).toContain('chatgpt.com');
}

verifies(
  'agent.codex',
  'unmodified Codex works through every layer, as the present user',
  () => throughEveryLayer(),
  { timeoutMs: 180_000 },
);

verifies(
  'agent.codex',
  'unmodified Codex works through every layer, as an ordinary uid',
  () => throughEveryLayer(ORDINARY_UID),
  { timeoutMs: 180_000, skip: otherUidProblem() },
);
