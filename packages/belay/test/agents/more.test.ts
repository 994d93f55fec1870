// opencode, pi and Gemini CLI as npm delivers them, through every layer: by a flag, since they are
// large. `BELAY_AGENTS=all npm run test:agents`.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect } from 'vitest';
import { openPlace } from '../system/place.ts';
import { startUpstream, type Upstream } from '../system/upstreams.ts';
import { verifies } from '../verifies.ts';
import { installAgents, MORE_AGENTS } from './install.ts';
import { expectWholeRecord } from './record.ts';
import { speakAsGemini } from './scripted-gemini.ts';
import { speakAsModel } from './scripted-model.ts';
import { speakAsResponses } from './scripted-responses.ts';

const COMMAND = 'echo written by a tool call > out.txt';
const PROMPT = 'Write out.txt.';
const all = process.env.BELAY_AGENTS === 'all';

interface Case {
  readonly name: string;
  readonly preset: string;
  readonly host: string;
  readonly variable: string;
  readonly header: string;
  readonly format?: string;
  readonly paths: string;
  readonly command: readonly string[];
  readonly files?: Readonly<Record<string, string>>;
  readonly speak: (model: Upstream) => void;
}

const CASES: readonly Case[] = [
  {
    name: 'opencode',
    preset: 'model:openai',
    host: 'api.openai.com',
    variable: 'OPENAI_API_KEY',
    header: 'authorization',
    format: 'Bearer {}',
    paths: '/v1/**',
    command: ['opencode', 'run', PROMPT],
    files: {
      'opencode.json': JSON.stringify({
        model: 'openai/gpt-5',
        small_model: 'openai/gpt-5',
        permission: { bash: 'allow' },
      }),
    },
    speak: (model) => speakAsResponses(model, COMMAND),
  },
  {
    name: 'pi',
    preset: 'model:anthropic',
    host: 'api.anthropic.com',
    variable: 'ANTHROPIC_API_KEY',
    header: 'x-api-key',
    paths: '/v1/**',
    command: ['pi', '--provider', 'anthropic', '--model', 'claude-sonnet-4-5', '-p', PROMPT],
    speak: (model) => speakAsModel(model, [COMMAND]),
  },
  {
    name: 'gemini',
    preset: 'model:google',
    host: 'generativelanguage.googleapis.com',
    variable: 'GEMINI_API_KEY',
    header: 'x-goog-api-key',
    paths: '/v1beta/**',
    command: ['gemini', '--yolo', '-m', 'gemini-2.5-flash', '-p', PROMPT],
    speak: (model) => speakAsGemini(model, COMMAND),
  },
];

let bin: string;

beforeAll(() => {
  if (all) bin = installAgents(MORE_AGENTS);
}, 600_000);

for (const { name, preset, host, variable, header, format, paths, ...agent } of CASES) {
  verifies(
    'agent.more',
    `unmodified ${name} works through every layer`,
    async () => {
      const realKey = `key-${randomBytes(24).toString('hex')}`;
      await using model = await startUpstream([host]);
      agent.speak(model);
      const credential = {
        from: `env:${variable}`,
        environment: 'local',
        host,
        methods: ['GET', 'POST'],
        paths: [paths],
        header,
        ...(format === undefined ? {} : { format }),
        variable,
      };
      await using place = await openPlace({
        agent: name,
        allow: [preset],
        upstreams: { [host]: model },
        credentials: { model: credential },
      });
      for (const [file, text] of Object.entries(agent.files ?? {})) place.put(file, text);
      const env = { [variable]: realKey, PATH: `${bin}:${place.session.env.PATH}` };
      const how = { env, timeoutMs: 150_000 };
      const run = await place.run(['--agent', name], agent.command, how);
      expect(run.stderr).not.toContain('belay: error');
      expect(run.status, run.stderr).toBe(0);
      const out = readFileSync(join(place.workdir, 'out.txt'), 'utf8');
      expect(out).toBe('written by a tool call\n');
      const value = (format ?? '{}').replace('{}', () => realKey);
      const posts = model.arrivals.filter(({ method }) => method === 'POST');
      expect(posts.length).toBeGreaterThan(0);
      for (const { headers } of posts) expect(headers[header]).toBe(value);
      await expectWholeRecord(place, model, run, realKey);
    },
    { timeoutMs: 200_000, skip: !all && 'large: BELAY_AGENTS=all npm run test:agents' },
  );
}
