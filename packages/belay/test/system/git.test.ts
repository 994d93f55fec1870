// Pushes of a real git in the sandbox to git's own server, each beside its control: the same commands
// outside, straight to the server. What became of the repository is read from outside.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { Entry, Intent } from '../../src/core/entry.ts';
import { verifies } from '../verifies.ts';
import { serveGit } from './honest-services.ts';
import { type Attempt, denials, keyed, openPlace, type Place, type RunResult } from './place.ts';
import { scratch, startUpstream, type Upstream } from './upstreams.ts';

const skip = existsSync('/usr/bin/git') ? undefined : 'no git on this host';
const options = { timeoutMs: 90_000, skip };
const WHO = {
  GIT_AUTHOR_NAME: 'Some',
  GIT_AUTHOR_EMAIL: 'some@one.example',
  GIT_COMMITTER_NAME: 'Some',
  GIT_COMMITTER_EMAIL: 'some@one.example',
  GIT_TERMINAL_PROMPT: '0',
};
const BEFORE = Object.entries(WHO).map(([name, value]) => `export ${name}=${value}`);
const PUSH_TYPE = 'application/x-git-receive-pack-request';

let projects: ReturnType<typeof scratch>;
let upstream: Upstream;
let place: Place;
let made = 0;

beforeAll(async () => {
  if (skip !== undefined) return;
  projects = scratch();
  upstream = await startUpstream(['git.example', 'github.com', 'api.github.com', 'localhost']);
  upstream.answer = serveGit(projects.path);
  place = await openPlace({ upstreams: withUpstreams() });
}, 60_000);

afterEach(() => {
  if (upstream !== undefined) upstream.arrivals.length = 0;
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
  projects?.[Symbol.dispose]();
}, 60_000);

function withUpstreams() {
  return { 'git.example': upstream, 'github.com': upstream, 'api.github.com': upstream };
}

interface Repository {
  readonly path: string;
  /** Ids by the names of the refs. */
  refs(): Record<string, string>;
}

/** Bare, with two commits on `main`, and `agent/old` and `victim` beside it. */
function repository(path = `team/app-${made++}`, format = 'sha1'): Repository {
  const folder = join(projects.path, `${path}.git`);
  const work = join(projects.path, `work-${made++}`);
  const script = [
    ...['set -e', `git init -q -b main --object-format=${format} ${work}`, `cd ${work}`],
    ...['echo 1 >a', 'git add .', 'git commit -qm 1', 'echo 2 >a', 'git commit -qam 2'],
    ...['git branch agent/old', 'git branch victim', `git clone -q --bare . ${folder}`],
    `git -C ${folder} config http.receivepack true`,
  ];
  sh(script.join('\n'));
  return {
    path,
    refs() {
      const listed = sh(`git -C ${folder} for-each-ref --format='%(refname) %(objectname)'`);
      const lines = listed.split('\n').filter(Boolean);
      return Object.fromEntries(lines.map((line) => line.split(' ') as [string, string]));
    },
  };
}

function sh(script: string): string {
  const env = { PATH: process.env.PATH, HOME: projects.path, ...WHO };
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script], { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

/** A clone in a folder of its own, then each step, with what it ended with: `NAME=0`. */
function script(url: string, steps: Readonly<Record<string, string>>): readonly string[] {
  const folder = `clone-${made++}`;
  const each = Object.entries(steps).map(([name, step]) => `(${step}); echo "${name}=$?"`);
  const lines = [...BEFORE, `git clone -q ${url} ${folder} && cd ${folder}`, ...each];
  return ['sh', '-c', lines.join('\n')];
}

type Steps = Readonly<Record<string, string>>;

/** Which steps ended well. */
function ended(stdout: string): Record<string, boolean> {
  const found = [...stdout.matchAll(/^(\w+)=(\d+)$/gm)];
  return Object.fromEntries(found.map(([, name = '', status]) => [name, status === '0']));
}

async function inside(
  repo: Repository,
  steps: Steps,
  allow: readonly string[] = ['git.example'],
): Promise<
  RunResult & { readonly did: Record<string, boolean>; readonly entries: readonly Entry[] }
> {
  const flags = allow.flatMap((entry) => ['--allow', entry]);
  const command = script(`https://git.example/${repo.path}.git`, steps);
  const run = await place.run(flags, command, { timeoutMs: 45_000 });
  const entries = await place.entries(run.summary?.run);
  return { ...run, did: ended(run.stdout), entries };
}

/** The control: the same, straight to the server. */
async function outside(repo: Repository, steps: Steps): Promise<Record<string, boolean>> {
  const { port } = new URL(`tcp://${upstream.address}`);
  const command = script(`https://localhost:${port}/${repo.path}.git`, steps);
  const env = { GIT_SSL_CAINFO: projects.put('ca.pem', upstream.caPem) };
  const { stdout } = await place.session.exec(command, { env, cwd: projects.path });
  return ended(stdout);
}

const all = (steps: Steps, did: boolean): Record<string, boolean> =>
  Object.fromEntries(Object.keys(steps).map((name) => [name, did]));

const pushes = (entries: readonly Entry[]): readonly NonNullable<Intent['push']>[] =>
  entries.flatMap((entry) => (entry.type === 'intent' && entry.push ? [entry.push] : []));

const commit = (text: string): string => `echo ${text} >>a && git commit -qam ${text}`;

verifies(
  'git.push-agent',
  'an agent clones, pushes to a branch of its own, twice and much, and fetches',
  async () => {
    const repo = repository();
    const { refs } = repo;
    const before = refs();
    const big = 'head -c 3000000 /dev/urandom >big && git add big && git commit -qm big';
    const { did, entries, summary, stderr } = await inside(repo, {
      create: `git checkout -q -b agent/x/1 && ${commit('one')} && git push -q origin agent/x/1`,
      forward: `${commit('two')} && ${commit('three')} && git push -q origin HEAD`,
      merge: `git merge -q -m m origin/main && git checkout -q --detach main && ${commit('side')} && git checkout -q agent/x/1 && git merge -q -X ours -m m @{-1} && git push -q origin HEAD`,
      large: `${big} && git push -q origin HEAD`,
      sized: `${big} && git -c http.postBuffer=99999999 push -q origin HEAD`,
      fetch:
        'git fetch -q origin && test $(git rev-parse origin/agent/x/1) = $(git rev-parse HEAD)',
    });
    expect(did, stderr).toEqual(
      all({ create: '', forward: '', merge: '', large: '', sized: '', fetch: '' }, true),
    );
    expect(summary?.denials).toBe(0);
    const { 'refs/heads/agent/x/1': tip, ...rest } = refs();
    expect(rest).toEqual(before);
    const made = pushes(entries);
    expect(made.map(({ repository: path }) => path)).toEqual(made.map(() => repo.path));
    const changes = made.flatMap((push) => push.refs);
    expect(changes.map(({ change, ref }) => `${change} ${ref}`)).toEqual([
      'create refs/heads/agent/x/1',
      ...Array.from({ length: 4 }, () => 'fast-forward refs/heads/agent/x/1'),
    ]);
    // Each begins where the one before it ended; before much is sent, a client asks with nothing.
    expect(changes.map(({ old }) => old)).toEqual([
      undefined,
      ...changes.slice(0, -1).map((change) => change.new),
    ]);
    expect(changes.at(-1)?.new).toBe(tip);
    expect(made.some((push) => push.refs.length === 0)).toBe(true);
    const shown = await place.session.belay(['show', summary?.run ?? '']);
    expect(shown.stdout).toContain(`push to ${repo.path}; create refs/heads/agent/x/1 nothing..`);
    expect((await place.session.belay(['log', 'verify'])).status).toBe(0);
  },
  options,
);

verifies(
  ['git.push-agent', 'git.force-push'],
  'a repository with ids of SHA-256, and a clone without its history, are pushed to alike',
  async () => {
    const long = repository(undefined, 'sha256');
    const shallow = `git clone -q --depth 1 https://git.example/${long.path}.git shallow && cd shallow`;
    const steps = {
      create: `git checkout -q -b agent/x && ${commit('one')} && git push -q origin HEAD`,
      forward: `${commit('two')} && git push -q origin HEAD`,
      forced: 'git commit -q --amend -m other && git push -q -f origin HEAD',
      shallow: `${shallow} && ${commit('three')} && git push -q origin HEAD:agent/shallow && ${commit('four')} && git push -q origin HEAD:agent/shallow`,
    };
    const { did, entries, stderr } = await inside(long, steps);
    expect(did, stderr).toEqual({ create: true, forward: true, forced: false, shallow: true });
    const made = pushes(entries).flatMap(({ refs }) => refs);
    expect(made.map(({ change }) => change)).toEqual([
      'create',
      'fast-forward',
      'create',
      'fast-forward',
    ]);
    expect(made.every((change) => change.new?.length === 64)).toBe(true);
  },
  options,
);

verifies(
  ['git.push-agent', 'vault.places'],
  'a push to a server that wants a password takes one that the agent never has',
  async () => {
    const repo = repository();
    const serve = serveGit(projects.path);
    const wanted = `Basic ${Buffer.from('bot:push-secret-1').toString('base64')}`;
    upstream.answer = (request, reply) => {
      if (request.headers.authorization === wanted) serve(request, reply);
      else reply.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
    };
    const url = `https://git.example/${repo.path}.git`;
    const steps = {
      push: `${commit('one')} && git push -q origin HEAD:agent/x && ! env | grep -q push-secret`,
    };
    const credential = {
      from: 'env:PUSH_TOKEN',
      environment: 'local',
      host: 'git.example',
      basic: 'bot',
    };
    const run = () =>
      place.run(['--allow', 'git.example'], script(url, steps), {
        env: { PUSH_TOKEN: 'push-secret-1' },
      });
    // The control: without the credential not even the clone.
    expect(ended((await run()).stdout)).toEqual({ push: false });
    place.configure({
      upstreams: withUpstreams(),
      credentials: { git: { ...credential, methods: ['GET', 'POST'], paths: ['/team/**'] } },
    });
    const pushed = await run();
    place.configure({ upstreams: withUpstreams() });
    upstream.answer = serve;
    expect(ended(pushed.stdout), pushed.stderr).toEqual({ push: true });
    expect(Object.keys(repo.refs())).toContain('refs/heads/agent/x');
  },
  options,
);

verifies(
  ['git.push-main', 'git.every-ref'],
  'a push to another branch, a tag, or to one of these among others leaves the repository as it was',
  async () => {
    const steps = {
      main: `${commit('one')} && git push -q origin HEAD:main`,
      tag: 'git tag v1 && git push -q origin v1',
      look: 'git push -q origin HEAD:refs/heads/Agent/x',
      near: 'git push -q origin HEAD:refs/heads/agents/x',
      notes: 'git push -q origin HEAD:refs/notes/agent/x',
      both: 'git push -q origin HEAD:agent/good HEAD:refs/heads/other',
      large:
        'head -c 3000000 /dev/urandom >big && git add big && git commit -qm big && git push -q origin HEAD:main',
      atomic: 'git push -q --atomic origin HEAD:refs/heads/another HEAD:agent/better',
    };
    const twin = repository();
    expect(await outside(twin, steps)).toEqual(all(steps, true));
    expect(Object.keys(twin.refs())).toContain('refs/heads/other');

    const repo = repository();
    const before = repo.refs();
    const { did, entries, stderr, summary } = await inside(repo, steps);
    expect(did).toEqual(all(steps, false));
    expect(repo.refs()).toEqual(before);
    expect(stderr).toContain('The requested URL returned error: 403');
    expect(pushes(entries).flatMap((push) => push.refs)).toEqual([]);
    const refused = denials(entries);
    expect(refused.map(({ code }) => code)).toEqual(
      Object.keys(steps).map(() => 'policy.no-permit'),
    );
    expect(refused[0]).toMatchObject({
      reason: expect.stringContaining('`git.push` of `refs/heads/main`'),
      told: {
        status: 403,
        message: 'belay denied this call: a push to refs/heads/main on git.example is not granted',
      },
      push: { repository: repo.path, refs: [{ ref: 'refs/heads/main', change: 'fast-forward' }] },
    });
    expect(refused[5]?.push?.refs.map(({ ref }) => ref).sort()).toEqual([
      'refs/heads/agent/good',
      'refs/heads/other',
    ]);
    expect(summary?.denied[0]?.remedy).toBe(`--allow git.push:git.example/${repo.path}#main`);
    const run = summary?.run ?? '';
    const said = await place.session.belay(['policy', 'suggest', '--json', '--from', run]);
    const suggested = (JSON.parse(said.stdout) as { readonly allow: readonly string[] }).allow;
    expect(suggested).toContain(`git.push:git.example/${repo.path}#refs/tags/v1`);
    expect(suggested).toContain('git.example');
  },
  options,
);

verifies(
  'git.force-push',
  'a branch is not moved off its commits, however the push is called',
  async () => {
    const steps = {
      amend:
        'git checkout -q -b agent/old origin/agent/old && git commit -q --amend -m other && git push -q -f origin HEAD',
      plus: 'git commit -q --amend -m another && git push -q origin +HEAD:agent/old',
      lease:
        'git commit -q --amend -m third && git fetch -q && git push -q --force-with-lease origin HEAD',
      back: 'git push -q -f origin HEAD~1:agent/old',
      root: 'git push -q -f origin $(git commit-tree -m r HEAD^{tree}):refs/heads/agent/old',
    };
    const twin = repository();
    expect(await outside(twin, steps)).toEqual(all(steps, true));

    const repo = repository();
    const before = repo.refs();
    const { did, entries } = await inside(repo, steps);
    expect(did).toEqual(all(steps, false));
    expect(repo.refs()).toEqual(before);
    expect(denials(entries).map(({ effect, push }) => [effect, push?.refs[0]])).toEqual(
      Object.keys(steps).map(() => [
        'irreversible',
        expect.objectContaining({ change: 'unproven', ref: 'refs/heads/agent/old' }),
      ]),
    );

    // The harmless twin: the same branch, moved forward.
    const forward = 'git checkout -q agent/old';
    const honest = { push: `${forward} && ${commit('on')} && git push -q origin HEAD` };
    expect((await inside(repo, honest)).did).toEqual({ push: true });
  },
  options,
);

verifies(
  ['git.force-push', 'git.ancestry'],
  'a server that takes over where a clone is cut off keeps the history of its branches',
  async () => {
    const trusting = (): Repository & { readonly log: () => string } => {
      const repo = repository();
      const folder = join(projects.path, `${repo.path}.git`);
      sh(`git -C ${folder} config receive.shallowUpdate true`);
      return { ...repo, log: () => sh(`git -C ${folder} log --format=%s agent/old`) };
    };
    const steps = {
      cut: `git checkout -q agent/old && ${commit('three')} && git rev-parse HEAD >.git/shallow && git push -q -f origin HEAD`,
    };
    const twin = trusting();
    expect(await outside(twin, steps)).toEqual({ cut: true });
    expect(twin.log()).toBe('three\n');

    const repo = trusting();
    const before = repo.refs();
    const { did, entries } = await inside(repo, steps);
    expect(did).toEqual({ cut: false });
    expect(repo.refs()).toEqual(before);
    expect(denials(entries)[0]?.push?.refs[0]).toMatchObject({ change: 'unproven' });

    // The harmless twin: on top of where an honest clone is cut off.
    const shallow = `git clone -q --depth 1 -b agent/old https://git.example/${repo.path}.git shallow`;
    const honest = {
      push: `${shallow} && cd shallow && ${commit('three')} && git push -q origin HEAD`,
    };
    expect((await inside(repo, honest)).did).toEqual({ push: true });
    expect(repo.log()).toBe('three\n2\n1\n');
  },
  options,
);

verifies(
  'git.delete-ref',
  'a ref is not deleted, alone or beside an honest push',
  async () => {
    const steps = {
      one: 'git push -q origin :agent/old',
      word: 'git push -q --delete origin victim',
      beside: 'git push -q origin HEAD:agent/new :agent/old',
    };
    const refs = (repo: Repository): string[] => Object.keys(repo.refs());
    const twin = repository();
    expect(await outside(twin, { one: steps.one, word: steps.word })).toEqual({
      one: true,
      word: true,
    });
    expect(refs(twin)).toEqual(['refs/heads/main']);

    const repo = repository();
    const before = repo.refs();
    const { did, entries } = await inside(repo, steps);
    expect(did).toEqual(all(steps, false));
    expect(repo.refs()).toEqual(before);
    expect(denials(entries)[0]).toMatchObject({
      effect: 'irreversible',
      told: {
        message: expect.stringContaining('a deletion of refs/heads/agent/old on git.example'),
      },
      push: {
        refs: [{ change: 'delete', ref: 'refs/heads/agent/old', old: before['refs/heads/main'] }],
      },
    });
    expect(denials(entries)[0]?.push?.refs[0]).not.toHaveProperty('new');
  },
  options,
);

verifies(
  ['git.push-main', 'git.force-push', 'git.delete-ref'],
  'what an entry of the grant names passes: that repository, those refs, that change',
  async () => {
    const [repo, other] = [repository(), repository()];
    const at = `git.example/${repo.path}`;
    const steps = {
      main: `${commit('one')} && git push -q origin HEAD:main`,
      tag: 'git tag v1 && git push -q origin v1',
      forcedMain: 'git commit -q --amend -m other && git push -q -f origin HEAD:main',
      forced: 'git push -q -f origin HEAD:victim && git push -q -f origin HEAD~1:victim',
      forward: 'git push -q origin HEAD:refs/heads/vi',
      deleted: 'git push -q origin :agent/old',
      deletedVictim: 'git push -q origin :victim',
    };
    const allow = [
      `git.push:${at}#main`,
      `git.force-push:${at}#vi*`,
      `git.delete-ref:${at}.git#agent/*`,
    ];
    const run = await inside(repo, steps, [...allow, 'git.example']);
    expect(run.did, run.stderr).toEqual({
      main: true,
      tag: false,
      forcedMain: false,
      forced: true,
      forward: true,
      deleted: true,
      deletedVictim: false,
    });
    // Without the host, an entry is enough to push, and to nothing else.
    const twin = repository('some/entry');
    const alone = {
      push: `git remote set-url origin https://git.example/${twin.path}.git && ${commit('one')} && git push -q origin HEAD:main`,
      fetch: 'git fetch -q',
      agent: 'git push -q origin HEAD:agent/x',
    };
    const flags = ['--allow', 'github-read', '--allow', `git.push:git.example/${twin.path}#main`];
    const pushed = await place.run(flags, script(`https://github.com/${twin.path}.git`, alone));
    expect(ended(pushed.stdout), pushed.stderr).toEqual({ push: true, fetch: false, agent: false });
    // Nor by the ways that are older than this protocol.
    const webDav = (method: string, at: string): Attempt => [
      'request',
      `https://git.example/${twin.path}.git/${at}`,
      { method, body: 'x' },
    ];
    const { results } = await place.attempt(flags, [
      webDav('PUT', 'refs/heads/main'),
      webDav('LOCK', 'refs/heads/main'),
      webDav('MOVE', 'refs/heads/agent/x'),
      webDav('PUT', 'objects/00/1'),
    ]);
    expect(results.map(({ value }) => value.status)).toEqual([403, 403, 403, 403]);
    const elsewhere = { main: steps.main, deleted: steps.deleted };
    const before = other.refs();
    expect((await inside(other, elsewhere, [...allow, 'git.example'])).did).toEqual(
      all(elsewhere, false),
    );
    expect(other.refs()).toEqual(before);
  },
  options,
);

const ZERO = '0'.repeat(40);
const packet = (text: string): string => (text.length + 4).toString(16).padStart(4, '0') + text;
const CAPS = '\0 report-status delete-refs agent=git/2';

verifies(
  'git.unreadable',
  'what is meant for git and reads in two ways, or in none, does not leave',
  async () => {
    const repo = repository();
    const before = repo.refs();
    const old = before['refs/heads/victim'] as string;
    const kill = (ref = 'refs/heads/victim', caps = CAPS): string =>
      packet(`${old} ${ZERO} ${ref}${caps}`);
    const plain = `${kill()}0000`;
    const path = `/${repo.path}.git/git-receive-pack`;
    const post = (
      at: string,
      body: string,
      type = PUSH_TYPE,
      more: object = {},
      method = 'POST',
    ) => {
      const headers = { 'content-type': type, ...more };
      return ['request', `https://git.example${at}`, { method, headers, body }] as const;
    };
    const many = Array.from({ length: 40 }, (_, i) =>
      kill(`refs/heads/b${i}`, i === 0 ? CAPS : ''),
    );
    const attempts: Record<string, Attempt> = {
      query: post(`${path}?x=1`, plain),
      slash: post(`${path}/`, plain),
      capitals: post(path.replace('git-r', 'Git-R'), plain),
      parameter: post(`${path};x=1`, plain),
      escapedParameter: post(`${path}%3Bx=1`, plain),
      twiceEscaped: post(path.replace('git-receive', 'git%252Dreceive'), plain),
      escaped: post(path.replace('git-receive', '%67it%2Dreceive'), plain),
      below: post(`${path}/more`, plain),
      inFolder: post(`/${repo.path}/.git/git-receive-pack`, plain),
      twoSuffixes: post(`/${repo.path}.git.git/git-receive-pack`, plain),
      capitalSuffix: post(`/${repo.path}.GIT/git-receive-pack`, plain),
      parameterBefore: post(`/${repo.path};x=1/git-receive-pack`, plain),
      parameterOfFolder: post(`/team;x=1/${repo.path.slice(5)}.git/git-receive-pack`, plain),
      escapeBefore: post(`/${repo.path}%20.git/git-receive-pack`, plain),
      capitalsOfNoType: post(path.replace('git-r', 'Git-R'), plain, 'text/plain'),
      parameterOfNoType: post(`${path};x=1`, plain, 'text/plain'),
      escapesOfNoType: post(path.replace('git-receive', 'git%252Dreceive'), plain, 'text/plain'),
      otherType: post(path, plain, 'application/octet-stream'),
      typeElsewhere: post(`/${repo.path}.git/push`, plain),
      typeParameter: post(path, plain, `${PUSH_TYPE}; charset=utf-8`),
      put: post(path, plain, PUSH_TYPE, {}, 'PUT'),
      get: post(path, plain, PUSH_TYPE, { 'content-length': `${plain.length}` }, 'GET'),
      gzip: post(path, plain, PUSH_TYPE, { 'content-encoding': 'gzip' }),
      identity: post(path, plain, PUSH_TYPE, { 'content-encoding': 'identity' }),
      empty: post(path, ''),
      twice: post(path, `${kill()}${kill('refs/heads/victim', '')}0000`),
      dots: post(path, `${kill('refs/heads/agent/../victim')}0000`),
      twoDots: post(path, `${kill('refs/heads/agent/x..y')}0000`),
      lineBreak: post(path, `${kill('refs/heads/agent/x\n')}0000`),
      secondNul: post(path, `${kill('refs/heads/agent/x', `${CAPS}\0refs/heads/victim`)}0000`),
      lateNul: post(path, `${kill('refs/heads/agent/x')}${kill()}0000`),
      noCapabilities: post(path, `${kill('refs/heads/victim', '')}0000`),
      strange: post(path, `${kill('refs/heads/victim', `${CAPS} be-kind`)}0000`),
      options: post(
        path,
        `${kill('refs/heads/victim', `${CAPS} push-options`)}0000${packet('ci.skip')}0000`,
      ),
      noPack: post(path, `${packet(`${ZERO} ${old} refs/heads/agent/x${CAPS}`)}0000`),
      hiddenPack: post(path, `${packet(`${ZERO} ${old} refs/heads/agent/x${CAPS}`)}0000${plain}`),
      certificate: post(path, `${packet(`push-cert\0${CAPS}`)}${kill()}0000`),
      capitalId: post(path, plain.replace(old, old.toUpperCase())),
      capitalLength: post(
        path,
        plain.replace(/^..../, (length) => length.toUpperCase()),
      ),
      cutOff: post(path, plain.slice(0, -2)),
      after: post(path, `${plain}${plain}`),
      afterNothing: post(path, `0000${plain}`),
      delimiter: post(path, `0001${plain}`),
      many: post(path, `${many.join('')}0000`),
    };
    const flags = ['--allow', 'git.example'];
    const { results, run } = await place.attempt(flags, Object.values(attempts));
    const came = keyed(attempts, results);
    const statuses = Object.entries(came).map(([name, { value }]) => [name, value?.status]);
    expect(Object.fromEntries(statuses)).toEqual(
      Object.fromEntries(Object.keys(attempts).map((name) => [name, 403])),
    );
    expect(upstream.arrivals).toEqual([]);
    expect(repo.refs()).toEqual(before);
    const refused = denials(await place.entries(run.summary?.run));
    // In its plain form it is read, and lacks a permit.
    const codes = Object.fromEntries(
      Object.keys(attempts).map((name, i) => [name, refused[i]?.code]),
    );
    expect(codes).toEqual(
      Object.fromEntries(
        Object.keys(attempts).map((name) => [
          name,
          name === 'escaped' ? 'policy.no-permit' : 'push.unreadable',
        ]),
      ),
    );
    expect(came.query?.value.text).toContain('gets no push that cannot be read');

    // The control: several of these do what they say when they get there.
    const works = { query: attempts.query, noCapabilities: attempts.noCapabilities };
    const { port } = new URL(`tcp://${upstream.address}`);
    for (const [name, attempt] of Object.entries({ plain: post(path, plain), ...works })) {
      const twin = repository();
      const [, url = '', how] = attempt as [string, string, { body: string }];
      const there = url.replace('git.example', `localhost:${port}`).replace(repo.path, twin.path);
      const body = how.body.replaceAll(old, twin.refs()['refs/heads/victim'] as string);
      const env = { NODE_EXTRA_CA_CERTS: join(place.workdir, 'ca-0.pem') };
      const [{ value } = { value: undefined }] = await place.control(
        [['request', there, { ...how, body }]],
        { env },
      );
      expect(value?.status, name).toBe(200);
      expect(Object.keys(twin.refs()), name).not.toContain('refs/heads/victim');
    }

    // The harmless twins: what only sounds like a push.
    const harmless: Record<string, Attempt> = {
      refs: ['request', `https://git.example/${repo.path}.git/info/refs?service=git-receive-pack`],
      named: post('/docs/git-receive-packs', 'x', 'text/plain'),
    };
    const passed = await place.attempt(flags, Object.values(harmless));
    expect(passed.results.map(({ value }) => value.status === 403)).toEqual([false, false]);
    expect(upstream.arrivals.length).toBeGreaterThanOrEqual(2);
  },
  options,
);

verifies(
  'git.unreadable',
  'a push in slices is read like one that comes at once, and a coded one is not',
  async () => {
    const repo = repository();
    const before = repo.refs();
    const old = before['refs/heads/victim'] as string;
    const command = `${packet(`${old} ${ZERO} refs/heads/victim${CAPS}`)}0000`;
    const head = [
      `POST /${repo.path}.git/git-receive-pack HTTP/1.1`,
      'Host: git.example',
      `Content-Type: ${PUSH_TYPE}`,
      'Transfer-Encoding: chunked',
    ];
    const chunked = [...command].map((char) => `1\r\n${char}\r\n`).join('');
    const coded = gzipSync(command).toString('latin1');
    const request = (fields: readonly string[], body: string): string =>
      `${[...head, ...fields].join('\r\n')}\r\n\r\n${body}0\r\n\r\n`;
    const to = { host: 'git.example', port: 443, servername: 'git.example' };
    const zipped = `${coded.length.toString(16)}\r\n${coded}\r\n`;
    const rows = [
      { ...to, text: request(['Connection: close'], chunked) },
      { ...to, text: request(['Content-Encoding: gzip', 'Connection: close'], zipped) },
    ];
    const attempts = rows.map((row): Attempt => ['raws', [row]]);
    const { results, run } = await place.attempt(['--allow', 'git.example'], attempts);
    for (const { value } of results) expect(value?.[0].heard).toMatch(/^HTTP\/1.1 403 /);
    expect(upstream.arrivals).toEqual([]);
    expect(repo.refs()).toEqual(before);
    expect(denials(await place.entries(run.summary?.run)).map(({ code }) => code)).toEqual([
      'policy.no-permit',
      'push.unreadable',
    ]);
  },
  options,
);

verifies(
  'git.remotes',
  'a remote that is meant for ssh is reached by HTTPS, for fetches and for pushes',
  async () => {
    const repo = repository();
    const steps = {
      scp: `git remote set-url origin git@git.example:${repo.path}.git && git fetch -q && ${commit('one')} && git push -q origin HEAD:agent/scp`,
      ssh: `git remote set-url origin ssh://git@git.example/${repo.path}.git && git push -q origin HEAD:agent/ssh`,
      pushUrl: `git remote set-url --push origin ssh://git@git.example:22/${repo.path} && git push -q origin HEAD:agent/url`,
      own: `git config --unset remote.origin.pushurl; git config url.ssh://git@nowhere.example/.pushInsteadOf ssh://git@git.example/ && git push -q origin HEAD:agent/own`,
      root: `git push -q git@git.example:/${repo.path}.git HEAD:agent/root`,
      main: 'git push -q origin HEAD:main',
      numbers: `test "$(git ls-remote --get-url git@[2001:db8::1]:/team/app)" = https://[2001:db8::1]:8443/team/app`,
      forge:
        'git remote set-url origin git@github.com:a/b.git && test "$(git remote get-url --push origin)" = https://github.com/a/b.git',
    };
    const allow = ['git.example', 'git.push:[2001:db8::1]:8443/team/app#main'];
    const { did, stderr } = await inside(repo, steps, allow);
    expect(did, stderr).toEqual({ ...all(steps, true), main: false });
    expect(Object.keys(repo.refs())).toEqual([
      'refs/heads/agent/old',
      ...['own', 'root', 'scp', 'ssh', 'url'].map((name) => `refs/heads/agent/${name}`),
      'refs/heads/main',
      'refs/heads/victim',
    ]);
  },
  options,
);

verifies(
  'git.preset',
  '`github-write-branch` pushes to branches of agents and opens pull requests, and that is all',
  async () => {
    const repo = repository('some/project');
    const url = `https://github.com/${repo.path}.git`;
    const flags = ['--allow', 'github-read', '--allow', 'github-write-branch'];
    const before = repo.refs();
    const steps = {
      main: `${commit('one')} && git push -q origin HEAD:main`,
      forced: 'git push -q -f origin HEAD~2:agent/old',
      deleted: 'git push -q origin :agent/old',
    };
    const refused = await place.run(flags, script(url, steps), { timeoutMs: 45_000 });
    expect(ended(refused.stdout)).toEqual(all(steps, false));
    expect(repo.refs()).toEqual(before);
    const honest = { push: `${commit('one')} && git push -q origin HEAD:agent/x` };
    const pushed = await place.run(flags, script(url, honest), { timeoutMs: 45_000 });
    expect(ended(pushed.stdout), pushed.stderr).toEqual({ push: true });
    expect(Object.keys(repo.refs())).toContain('refs/heads/agent/x');

    upstream.answer = (_request, reply) => void reply.end('ok\n');
    const api = 'https://api.github.com/repos/some/project';
    const write = (at: string, method: string): Attempt => [
      'request',
      `${api}/${at}`,
      { method, body: '{}' },
    ];
    const { results } = await place.attempt(flags, [
      write('pulls', 'POST'),
      write('pulls/1/merge', 'PUT'),
      write('git/refs/heads/main', 'PATCH'),
      write('git/refs', 'POST'),
      write('releases', 'POST'),
    ]);
    upstream.answer = serveGit(projects.path);
    expect(results.map(({ value }) => value.status)).toEqual([200, 403, 403, 403, 403]);

    // Without the preset: reading alone.
    const reading = await place.run(['--allow', 'github-read'], script(url, honest));
    expect(ended(reading.stdout)).toEqual({ push: false });
    expect(reading.stderr).toContain('remote: belay denied this call: github.com is not granted');
    expect(reading.summary?.denied).toMatchObject([{ remedy: '--allow github-write-branch' }]);
  },
  options,
);
