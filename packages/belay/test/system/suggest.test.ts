// What a run tried, turned into the grant that it would have needed, and that grant tried.

import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { denials, openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const HOSTS = ['registry.npmjs.org', 'github.com', 'api.example', 'forbidden.example'];

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream(HOSTS);
  const upstreams = Object.fromEntries(HOSTS.map((host) => [host, upstream]));
  place = await openPlace({ upstreams });
  place.configure({ upstreams });
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

const ASKED = [
  ['request', 'https://registry.npmjs.org/left-pad'],
  ['request', 'https://github.com/a/b/info/refs?service=git-upload-pack'],
  ['request', 'https://github.com/a/b/git-upload-pack', { method: 'POST', body: '0000' }],
  ['request', 'https://api.example/v1', { method: 'POST', body: 'x' }],
  ['request', 'https://api.example:8443/v1'],
] as const;

verifies(
  'policy.suggest',
  'the suggested grant lets the same run pass, and says what no grant can allow',
  async () => {
    // All of one port is permitted already, and of a host more than is asked.
    const first = await place.attempt(
      ['--allow', 'registry.npmjs.org'],
      [...ASKED, ['request', 'https://10.0.0.1/']],
    );
    const run = first.run.summary?.run as string;
    const said = await place.session.belay(['policy', 'suggest', '--from', run, '--json']);
    expect(said.status, said.stderr).toBe(0);
    const { allow, calls } = JSON.parse(said.stdout);
    expect(calls).toBe(1);
    expect(allow).toEqual([
      '10.0.0.1',
      'api.example',
      'api.example:8443',
      'github-read',
      'npm-read',
    ]);
    const words = await place.session.belay(['policy', 'suggest', '--from', run]);
    expect(words.stdout).toBe(`"allow": ${JSON.stringify(allow)}\n`);

    const flags = (allow as string[]).flatMap((entry) => ['--allow', entry]);
    const again = await place.attempt(flags, ASKED);
    expect(again.results.map(({ value }) => value.status)).toEqual(ASKED.map(() => 200));
    expect(denials(await place.entries(again.run.summary?.run))).toEqual([]);
    // What it used was the least of it: the same is suggested once more, without what it left out.
    const used = await place.session.belay([
      ...['policy', 'suggest', '--json'],
      ...['--from', again.run.summary?.run as string],
    ]);
    expect(JSON.parse(used.stdout).allow).toEqual(allow.slice(1));

    const capped = await place.attempt([...flags, '--budget', 'calls=1'], ASKED);
    const refused = await place.session.belay([
      ...['policy', 'suggest', '--json'],
      ...['--from', capped.run.summary?.run as string],
    ]);
    expect(JSON.parse(refused.stdout).refused[0]).toMatchObject({ code: 'budget.calls' });
    const unknown = await place.session.belay(['policy', 'suggest', '--from', 'r-bcdfghjk']);
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toMatch(/^belay: error: no run `r-bcdfghjk` in the ledger\n/);
  },
  { timeoutMs: 60_000 },
);
