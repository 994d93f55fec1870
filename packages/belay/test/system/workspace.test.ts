// A workspace that is not one's own friend: nested repositories, names that do not exist yet, links
// out of it, links that move, and files that the next person runs. Each attempt is made inside, and,
// as a control, outside in a copy, as the same uid.

import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { type Attempt, agentIds, eventually, openPlace, type Place, summaryIn } from './place.ts';
import { scratch } from './upstreams.ts';

const root = process.getuid?.() === 0;

/** Attempts that all fail inside and all work outside, each in a fresh copy of the workspace. */
async function onlyOutside(place: Place, attempts: readonly string[]): Promise<void> {
  using folder = scratch();
  const shells = attempts.map((text): Attempt => ['shell', text]);
  const copies = attempts.map((_, i) => {
    const copy = join(folder.path, String(i));
    cpSync(place.workdir, copy, { recursive: true, verbatimSymlinks: true });
    own(copy);
    return copy;
  });
  own(folder.path);
  const { results, run } = await place.attempt([], shells);
  expect(run.status).toBe(0);
  for (const [i, text] of attempts.entries()) {
    expect(results[i]?.value.status, `inside: ${text}`).not.toBe(0);
    const { status, stderr } = await place.outside(['sh', '-c', text], {
      cwd: copies[i] as string,
    });
    expect(status, `outside: ${text}: ${stderr}`).toBe(0);
  }
}

/** Everything below a folder, without following links, belongs to the agent's uid. */
function own(path: string): void {
  if (!root) return;
  const { uid, gid } = agentIds();
  chownSync(path, uid, gid);
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const below = join(path, entry.name);
    if (entry.isDirectory()) own(below);
    else if (entry.isFile()) chownSync(below, uid, gid);
  }
}

verifies(
  ['fsw.nested-git', 'fsw.git-rename'],
  'hooks and settings of every repository cannot be written, nor a folder above them be renamed',
  async () => {
    await using place = await openPlace();
    for (const path of ['.git/hooks', 'libs/inner/.git/hooks', 'libs/tree']) {
      mkdirSync(join(place.workdir, path), { recursive: true });
    }
    place.put('libs/inner/.git/config', '[core]\n');
    place.put('libs/tree/.git', 'gitdir: ../../.git/worktrees/tree\n');
    await onlyOutside(place, [
      'echo evil > libs/inner/.git/hooks/pre-commit',
      'echo evil >> libs/inner/.git/config',
      'mkdir libs/inner/.git/info && echo evil > libs/inner/.git/info/attributes',
      'mkdir libs/inner/.claude && echo evil > libs/inner/.claude/settings.json',
      'echo "gitdir: /tmp" > libs/tree/.git',
      'rm libs/tree/.git',
      'mv libs/inner/.git libs/inner/.other',
      'mv libs/inner libs/other',
      'mv libs other',
      'mv .git/hooks .git/other',
      'mv .git .other',
    ]);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.worktrees',
  'a linked worktree elsewhere on the host keeps its settings, and git works in the workspace',
  async () => {
    using folder = scratch();
    await using place = await openPlace();
    const { workdir } = place;
    const linked = join(folder.path, 'linked');
    const host = async (...command: string[]): Promise<string> => {
      const done = await place.session.exec(command, { cwd: workdir });
      expect(done.status, `${command.join(' ')}: ${done.stderr}`).toBe(0);
      return done.stdout;
    };
    const git = 'git -c user.name=a -c user.email=a@b';
    await host('sh', '-ec', `git init -q; ${git} commit -qm one --allow-empty`);
    await host('git', 'worktree', 'add', '-q', linked);
    const tree = '.git/worktrees/linked';
    const ran = join(folder.path, 'ran');
    const prepare = [
      'mkdir -p evil/objects evil/refs; cp .git/HEAD evil',
      `git config -f evil/config core.fsmonitor "touch ${ran}; false"`,
      'git config -f evil/config core.repositoryformatversion 0',
    ].join('; ');
    const seize = `${prepare}; echo "$(pwd)/evil" > ${tree}/commondir`;
    const work = `git status && ${git} commit -qm two --allow-empty && git worktree list`;
    expect((await place.run([], ['sh', '-c', seize])).status).not.toBe(0);
    const honest = await place.run([], ['sh', '-ec', work]);
    expect(honest.status, honest.stderr).toBe(0);
    expect(honest.stdout).toContain(linked);
    await host('git', '-C', linked, 'status');
    expect(existsSync(ran)).toBe(false);
    await onlyOutside(place, [
      `echo /tmp > ${tree}/gitdir`,
      `echo evil > ${tree}/config.worktree`,
      `rm ${tree}/commondir`,
      `mv ${tree} ${tree}-other`,
      'mv .git/worktrees .git/other',
    ]);
    // The control: whoever can write that file has its program run.
    await host('sh', '-ec', seize);
    await place.session.exec(['git', '-C', linked, 'status']);
    expect(existsSync(ran)).toBe(true);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'fsw.nested-git',
  'a run that makes many folders called .git takes no protection from deeper repositories',
  async () => {
    await using place = await openPlace();
    mkdirSync(join(place.workdir, 'far/down/here/.git/hooks'), { recursive: true });
    place.put('far/down/here/.git/HEAD', 'ref: refs/heads/main\n');
    const crowd = 'for i in $(seq 40); do mkdir -p $i/.git; done';
    expect((await place.run([], ['sh', '-c', crowd])).status).toBe(0);
    await onlyOutside(place, ['echo evil > far/down/here/.git/hooks/pre-commit']);
  },
  { timeoutMs: 60_000 },
);

verifies(
  ['fsw.missing-config', 'fsw.agent-config'],
  'no protected name can be made, changed or removed, whether it exists or not',
  async () => {
    await using place = await openPlace();
    for (const folder of ['.claude', '.husky']) mkdirSync(join(place.workdir, folder));
    place.put('.claude/settings.json', '{}\n');
    place.put('.npmrc', 'registry=https://registry.npmjs.org/\n');
    const folders = ['.claude', '.cursor', '.codex', '.gemini', '.opencode', '.vscode', '.idea'];
    const files = ['.mcp.json', '.envrc', '.npmrc', '.yarnrc.yml', '.pnpmfile.cjs', 'bunfig.toml'];
    await onlyOutside(place, [
      ...[...folders, '.husky', '.devcontainer', '.github/workflows'].map(
        (path) => `mkdir -p ${path} && echo evil > ${path}/evil.json`,
      ),
      ...[...files, '.pre-commit-config.yaml', '.gitlab-ci.yml', 'opencode.json'].map(
        (path) => `echo evil > ${path}`,
      ),
      'rm .npmrc',
      'rm -r .claude',
      'mv .claude other',
      'mkdir made && echo evil > made/settings.json && rm -r .claude && mv made .claude',
      'ln -sf /etc/passwd .npmrc',
    ]);
    expect(readFileSync(join(place.workdir, '.npmrc'), 'utf8')).toContain('registry.npmjs.org');
  },
  { timeoutMs: 90_000 },
);

verifies(
  ['fsw.symlink-out', 'fsw.hardlink'],
  'links lead to nothing outside the workspace, made before or inside',
  async () => {
    using folder = scratch();
    await using place = await openPlace();
    const outside = join(folder.path, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'secret.txt'), 'a secret outside\n');
    own(folder.path);
    symlinkSync(outside, join(place.workdir, 'before'));
    await onlyOutside(place, [
      'cat before/secret.txt',
      'echo evil > before/evil.txt',
      `ln -s ${outside} inside && cat inside/secret.txt`,
      `ln -sf ${outside}/secret.txt inside.txt && echo evil >> inside.txt`,
    ]);
    // A hard link needs a file that is there and is the agent's own; inside, none of them is.
    const link = `mkdir -p ${folder.path}/links && ln ${outside}/secret.txt ${folder.path}/links/hard.txt`;
    expect((await place.outside(['sh', '-c', link])).status).toBe(0);
    const { results } = await place.attempt(
      [],
      [
        ['shell', `ln ${outside}/secret.txt hard.txt`],
        ['shell', 'ln /usr/bin/env hard && echo evil > hard'],
      ],
    );
    for (const { value } of results) expect(value.status).not.toBe(0);
  },
  { timeoutMs: 60_000 },
);

/** Arguments: a file to wait for, a folder, and for how many milliseconds a link takes its place. */
const SWAP_ONCE = `
my ($sign, $folder, $ms) = @ARGV;
my $until = time + 20;
until (-e $sign) { die "no $sign" if time > $until; select undef, undef, undef, 0.001 }
rename $folder, '.aside' or die "$folder: $!";
symlink '.git/hooks', $folder or die "$folder: $!";
select undef, undef, undef, $ms / 1000;
unlink $folder and rename '.aside', $folder or die "$folder: $!"`;
const WRITE_LONG =
  'for i in $(seq 40); do echo evil > .claude/evil.json; sleep 0.01; done 2> /dev/null; true';

verifies(
  'fsw.symlink-swap-race',
  'a protected name that is swapped for a link while sandboxes are built leads nowhere else',
  async () => {
    using folder = scratch();
    await using place = await openPlace();
    const target = join(folder.path, 'target');
    mkdirSync(target);
    for (const name of ['.claude', '.git/hooks']) {
      mkdirSync(join(place.workdir, name), { recursive: true });
    }
    own(place.workdir);
    own(folder.path);
    // Outside, as the agent's uid: more than an agent can do, whose own view has the name pinned.
    // First once a run, for a while, from the moment at which the names have been judged: the
    // placeholders tell of it.
    for (const ms of [60, 200, 500]) {
      const at = ['.gitlab-ci.yml', '.claude', `${ms}`];
      const swapped = place.outside(['perl', '-e', SWAP_ONCE, ...at]);
      const run = await place.run([], ['sh', '-c', WRITE_LONG]);
      if (run.status !== 0) expect(run.stderr).toContain('belay: error');
      expect(await swapped, 'the swap took place').toMatchObject({ status: 0 });
    }
    // Then all the time. One target is nowhere inside; the other is there, and closed. Now and then
    // it rests, so that some runs start while nothing moves.
    const swap = [
      `while :; do for to in $(yes ${target} .git/hooks | head -20); do mv .claude .aside;`,
      'ln -s $to .claude; rm -f .claude; mv .aside .claude; sleep 0.002; done;',
      'sleep 1.5; done 2> /dev/null',
    ].join(' ');
    const write = 'for i in $(seq 100); do echo evil > .claude/evil.json; done 2> /dev/null; true';
    const { uid, gid } = agentIds();
    const swapper = spawn('sh', ['-c', swap], {
      cwd: place.workdir,
      stdio: 'ignore',
      ...(root ? { uid, gid } : {}),
    });
    try {
      let worked = 0;
      for (let i = 0; i < 16; i++) {
        const run = await place.run([], ['sh', '-c', write]);
        // The name is closed, or the run is refused; whatever was raced, nothing went through it.
        if (run.status === 0) worked++;
        else expect(run.stderr).toContain('belay: error');
      }
      expect(worked, 'runs that were not refused').toBeGreaterThan(0);
    } finally {
      swapper.kill('SIGKILL');
    }
    const evil = await place.outside(['find', folder.path, place.workdir, '-name', 'evil.json']);
    expect(evil).toMatchObject({ status: 0, stdout: '' });
    const control = `ln -sfn ${target} .link && echo evil > .link/evil.json`;
    const outside = await place.outside(['sh', '-c', control], { cwd: place.workdir });
    expect(outside.status, outside.stderr).toBe(0);
    expect(readdirSync(target)).toEqual(['evil.json']);
  },
  { timeoutMs: 120_000 },
);

verifies(
  'fsw.placeholder-cleanup',
  'no placeholder stays: after a run, after SIGKILL of its launcher, and after everything was killed',
  async () => {
    await using place = await openPlace();
    const clean = readdirSync(place.workdir).sort();
    const names = (): readonly string[] => readdirSync(place.workdir).sort();
    await place.run([], ['true']);
    expect(names()).toEqual(clean);

    for (const everything of [false, true]) {
      const started = place.start([], ['sleep', '300']);
      const run = await place.openRun();
      expect(names(), 'placeholders are on the host while it runs').not.toEqual(clean);
      if (everything) {
        const { pid } = await place.status();
        process.kill(pid, 'SIGKILL');
      }
      started.child.kill('SIGKILL');
      await started.ended;
      if (everything) {
        await place.run([], ['true']);
        expect(names(), 'once the next command has run').toEqual(clean);
      } else {
        await eventually(
          `end of ${run}`,
          () => {
            return JSON.stringify(names()) === JSON.stringify(clean) || undefined;
          },
          4_000,
        );
      }
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.changes',
  'a run ends with a list of what it changed that someone else executes or obeys, also in the ledger',
  async () => {
    await using place = await openPlace();
    place.put('package.json', '{}\n');
    place.put('notes.txt', 'x\n');
    const script = [
      'echo "{ \\"scripts\\": {} }" > package.json',
      'echo all: > Makefile',
      'mkdir -p new/.git/hooks && echo evil > new/.git/hooks/pre-commit',
      'echo y > notes.txt',
    ].join(' && ');
    const run = await place.run([], ['sh', '-c', script]);
    expect(run.status, run.stderr).toBe(0);
    const changes = [
      { path: 'new/.git', how: 'added' },
      { path: 'package.json', how: 'changed' },
      { path: 'Makefile', how: 'added' },
      { path: 'new/.git/hooks/pre-commit', how: 'added' },
    ];
    expect(run.summary).toMatchObject({ changes, changeCount: 4, unwalked: 0 });
    const entries = await place.entries(run.summary?.run);
    expect(entries.at(-1)).toMatchObject({ type: 'run.close', changes });
    const words = await place.session.belay(['run', '--', 'rm', 'Makefile']);
    expect(words.stderr).toContain('belay: removed Makefile');
    const quiet = await place.run([], ['sh', '-c', 'echo z > notes.txt']);
    expect(quiet.summary).toMatchObject({ changes: [] });
  },
  { timeoutMs: 60_000 },
);

verifies(
  ['fsw.changes', 'fsw.own-policy'],
  'a configuration that a run made in a subfolder is told in words, before a run there obeys it',
  async () => {
    await using place = await openPlace();
    const write = 'mkdir -p packages/x && cat belay.jsonc > packages/x/belay.jsonc';
    const { status, stderr } = await place.session.belay(['run', '--', 'sh', '-c', write]);
    expect(status, stderr).toBe(0);
    const told = 'belay: added packages/x/belay.jsonc, which says what a run there may do\n';
    expect(stderr).toContain(told);
    // What it means: a run there has what that file grants, an agent named in it for one.
    const flags = ['--workdir', join(place.workdir, 'packages/x'), '--agent', 'tester'];
    expect((await place.run(flags, ['true'])).status).toBe(0);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.changes',
  'the placeholders of a run beside it are no changes of a run',
  async () => {
    await using place = await openPlace();
    const first = place.start([], ['sh', '-c', 'while [ ! -e go ]; do sleep 0.05; done']);
    await place.openRun();
    place.start([], ['sleep', '300']);
    await eventually('both', async () => {
      const { runs } = await place.status();
      return runs.filter(({ state }) => state !== 'starting').length === 2 || undefined;
    });
    place.put('go', '');
    expect((await first.ended).status, first.stderr()).toBe(0);
    expect(readdirSync(place.workdir), 'the other run relies on it').toContain('.envrc');
    expect(summaryIn(first.stderr())).toMatchObject({ changes: [] });
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.new-repository',
  'a repository whose settings name a program is told at the end, and a careful `git status` passes it',
  async () => {
    using folder = scratch();
    await using place = await openPlace();
    const script = [
      'git() { command git -c user.name=a -c user.email=a@b "$@"; }',
      'printf "#!/bin/sh\\necho ran >> $(pwd)/ran\\n" > evil; chmod +x evil',
      'for name in folder file; do',
      'git init -q $name; git -C $name commit -qm one --allow-empty; git add $name',
      'git -C $name config core.fsmonitor $(pwd)/evil',
      'done',
      'mkdir data; mv file/.git data/store; echo "gitdir: ../data/store" > file/.git',
    ].join('\n');
    const prepare = ['git', 'init', '-q'];
    expect((await place.session.exec(prepare, { cwd: place.workdir })).status).toBe(0);
    const run = await place.session.belay(['run', '--', 'sh', '-ec', script]);
    expect(run.status, run.stderr).toBe(0);
    for (const name of ['file', 'folder']) {
      const told = `belay: added ${name}/.git, whose settings name programs that git runs\n`;
      expect(run.stderr).toContain(told);
    }
    expect(run.stderr).toContain('belay: added data/store/config');

    // What it means, and what THREAT-MODEL.md says to type instead.
    const copy = join(folder.path, 'copy');
    cpSync(place.workdir, copy, { recursive: true, verbatimSymlinks: true });
    own(folder.path);
    for (const name of ['folder/.git', 'data/store']) {
      const settings = join(copy, name, 'config');
      const text = readFileSync(settings, 'utf8').replaceAll(place.workdir, copy);
      writeFileSync(settings, text);
    }
    writeFileSync(join(copy, 'evil'), `#!/bin/sh\necho ran >> ${copy}/ran\n`);
    const status = async (...flags: string[]): Promise<boolean> => {
      rmSync(join(copy, 'ran'), { force: true });
      const { status, stderr } = await place.outside(['git', 'status', ...flags], { cwd: copy });
      expect(status, stderr).toBe(0);
      return existsSync(join(copy, 'ran'));
    };
    expect(await status('--ignore-submodules=dirty')).toBe(false);
    expect(await status()).toBe(true);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsr.secret-file',
  'a file that a credential comes from cannot be replaced for the next run, nor a folder above it',
  async () => {
    await using place = await openPlace();
    const credential = (file: string) => ({
      ...{ from: `file:${file}`, environment: 'local', host: 'api.example' },
      ...{ methods: ['GET'], paths: ['/**'], header: 'authorization' },
    });
    mkdirSync(join(place.workdir, 'own/keys'), { recursive: true });
    place.put('own/keys/api.txt', 'of-the-user\n');
    place.put('own/evil.txt', 'of-the-agent\n');
    place.configure({
      credentials: {
        api: credential('./own/keys/api.txt'),
        later: { ...credential('./later/api.txt'), environment: 'other' },
      },
    });
    await onlyOutside(place, [
      'mv own/evil.txt own/keys/api.txt',
      'rm own/keys/api.txt && ln -s ../evil.txt own/keys/api.txt',
      'mv own/keys own/other',
      'mv own other',
      'mkdir later && echo evil > later/api.txt',
    ]);
    // A link, whoever made it, is not followed.
    symlinkSync('own/keys/api.txt', join(place.workdir, 'linked.txt'));
    place.configure({ credentials: { api: credential('./linked.txt') } });
    const refused = await place.run([], ['true']);
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toContain('`./linked.txt` cannot be read: a symbolic link leads there');
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.changes',
  'names that fill more than an entry neither keep a run open nor hide a change',
  async () => {
    await using place = await openPlace();
    place.put('package.json', '{}\n');
    // Twenty files at 3.8 KB of path each.
    const deep = `${Array(19).fill('A'.repeat(199)).join('/')}`;
    const script = `mkdir -p ${deep} && cd ${deep} && touch $(seq -f %g.sh 20) && echo 1 > "$OLDPWD/package.json"`;
    const run = await place.run([], ['sh', '-c', script]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.summary).toMatchObject({ changeCount: 21 });
    const close = (await place.entries(run.summary?.run)).at(-1);
    expect(close).toMatchObject({ type: 'run.close', reason: 'exited', changeCount: 21 });
    const { changes } = close as Extract<typeof close, { type: 'run.close' }>;
    expect(changes?.[0]).toEqual({ path: 'package.json', how: 'changed' });
    expect(changes?.length).toBeLessThan(20);
    const words = await place.session.belay([
      'run',
      '--',
      'sh',
      '-c',
      'rm -r A*; touch $(seq -f %g.sh 300)',
    ]);
    expect(words.stderr).toMatch(
      /belay: and \d+ more such files; `belay show r-\w+` lists \d+ of all/,
    );
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsr.dotenv',
  'a .env file shows names and placeholders inside, in all its forms, and is whole afterwards',
  async () => {
    await using place = await openPlace();
    const value = 'sk_live_0123456789abcdef';
    place.put('.env', `API_KEY=${value}\nPORT=3000\n`);
    place.put('.env.local', `OTHER=${value}\n`);
    place.put('real.txt', `LINKED=${value}\n`);
    symlinkSync('real.txt', join(place.workdir, '.env.linked'));
    const script =
      'cat .env .env.local .env.linked; echo x >> .env || echo refused; grep -r sk_li . || true';
    const run = await place.run([], ['sh', '-c', script]);
    expect(run.stdout).toContain('API_KEY=belay-placeholder\nPORT=3000\n');
    expect(run.stdout).toContain('OTHER=belay-placeholder\n');
    expect(run.stdout).toContain('refused');
    expect(run.stdout).not.toContain(value);
    const outside = await place.outside(['cat', '.env'], { cwd: place.workdir });
    expect(outside.stdout).toBe(`API_KEY=${value}\nPORT=3000\n`);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'unix.workspace',
  'sockets with a listener on the host and pipes are closed inside, and what a dead server left is not',
  async () => {
    await using place = await openPlace();
    const at = (name: string): string => join(place.workdir, name);
    mkdirSync(at('run/.git'), { recursive: true });
    const names = ['run/app.sock', 'run/moved.sock', 'run/.git/watch.ipc'];
    const servers: Server[] = [];
    let callers = 0;
    for (const name of [...names, 'stale.sock']) {
      const server = createServer((socket) => {
        callers += 1;
        socket.end();
      });
      await new Promise<void>((resolve) => server.listen(at(`${name}.new`), resolve));
      // The kernel's table keeps the name that a socket was bound to.
      renameSync(at(`${name}.new`), at(name));
      chmodSync(at(name), 0o666);
      servers.push(server);
    }
    servers.pop()?.close();
    expect(spawnSync('mkfifo', ['-m', '666', at('run/jobs')]).status).toBe(0);
    const reader = openSync(at('run/jobs'), constants.O_RDWR | constants.O_NONBLOCK);
    try {
      const order = 'timeout 2 sh -c "echo evil > run/jobs"';
      const attempts: readonly Attempt[] = [
        ...names.map((name): Attempt => ['unix', at(name)]),
        ['shell', order],
        ['shell', 'rm run/app.sock'],
      ];
      const inside = await place.attempt([], attempts);
      expect(inside.run.stderr).toContain(
        'belay: warning: closed to the agent, since it may lead to the host: run/jobs and 3 more',
      );
      for (const { value } of inside.results.slice(0, 3)) expect(value).toBe('ECONNREFUSED');
      for (const { value } of inside.results.slice(3)) expect(value.status).not.toBe(0);
      expect(callers, 'who listens is not disturbed').toBe(0);
      const outside = await place.control(attempts.slice(0, 4));
      for (const { value } of outside.slice(0, 3)) expect(value).toBe('connected');
      expect(outside[3]?.value.status).toBe(0);
      const heard = Buffer.alloc(100);
      expect(heard.toString('utf8', 0, readSync(reader, heard)), 'once').toBe('evil\n');
      expect((await place.run([], ['rm', 'stale.sock'])).status).toBe(0);
    } finally {
      closeSync(reader);
      for (const server of servers) server.close();
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.allow-paths',
  '`--allow-read` and `--allow-write` open exactly that path, are recorded, and never open the state',
  async () => {
    using folder = scratch();
    await using place = await openPlace();
    for (const name of ['shown', 'given', 'other']) {
      mkdirSync(join(folder.path, name));
      writeFileSync(join(folder.path, name, 'file.txt'), `${name}\n`);
    }
    own(folder.path);
    const [shown, given, other] = ['shown', 'given', 'other'].map((name) =>
      join(folder.path, name),
    );
    const script = [
      `cat ${shown}/file.txt ${given}/file.txt`,
      `echo more >> ${given}/file.txt`,
      `echo evil 2>&1 >> ${shown}/file.txt || echo read-only`,
      `cat ${other}/file.txt 2>&1 || echo hidden`,
    ].join('; ');
    const flags = ['--allow-read', shown as string, '--allow-write', given as string];
    const run = await place.run(flags, ['sh', '-c', script]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toMatch(/^shown\ngiven\n/);
    expect(run.stdout).toContain('read-only\n');
    expect(run.stdout).toContain('hidden\n');
    expect(readFileSync(`${given}/file.txt`, 'utf8')).toBe('given\nmore\n');
    expect(readFileSync(`${shown}/file.txt`, 'utf8')).toBe('shown\n');
    const entries = await place.entries(run.summary?.run);
    expect(entries[0]).toMatchObject({
      type: 'run.open',
      paths: { read: [shown], write: [given] },
    });

    const { home } = place.session;
    const closed = ['/', '/proc', '/run', home, join(home, 'ledger'), join(home, '..'), '/missing'];
    for (const flag of ['--allow-read', '--allow-write']) {
      for (const path of closed) {
        const refused = await place.run([flag, path], ['true']);
        expect(refused.status, `${flag} ${path}`).toBe(2);
        expect(refused.stderr).toMatch(/belay: error: .*opened/);
      }
    }
    expect((await place.run(['--allow-write', '/usr/local'], ['true'])).status).toBe(2);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.mask-lost',
  'what a program outside replaces during a run is protected again, is told, and is in the ledger',
  async () => {
    await using place = await openPlace();
    const { workdir } = place;
    mkdirSync(join(workdir, '.git/hooks'), { recursive: true });
    for (const name of ['.git/config', '.npmrc']) place.put(name, '# the first\n');
    place.put('.env', 'KEY=sk_live_1\n');
    own(workdir);
    const closed = ['.git/config', '.npmrc', '.mcp.json'];
    const tries = closed.map((name) => `echo evil 2>&1 >> ${name} && echo wrote ${name}`);
    const script = [...tries, 'cat .env'].join('; ');
    const wait = 'until [ -e go ]; do sleep 0.05; done';
    const started = place.start([], ['sh', '-c', `echo up; ${wait}; ${script}`]);
    await eventually('the agent', () => started.stdout().includes('up') || undefined);
    // As git, editors and package managers write: another file, renamed over the old one.
    const replaced = [...closed, '.env'];
    for (const name of replaced) place.put(`${name}.new`, 'KEY=sk_live_2\n');
    own(workdir);
    for (const name of replaced) {
      const move = ['mv', '-f', `${name}.new`, name];
      expect((await place.outside(move, { cwd: workdir })).status).toBe(0);
    }
    const told = (name: string) =>
      `\`${join(workdir, name)}\` was replaced from outside: look at it`;
    await eventually('words for each', () => {
      return replaced.every((name) => started.stderr().includes(told(name))) || undefined;
    });
    place.put('go', '');
    const { status } = await started.ended;
    expect(status, started.stderr()).not.toBeNull();
    expect(started.stdout()).not.toContain('wrote');
    expect(started.stdout()).not.toContain('sk_live');
    const lost = (await place.entries()).filter(({ type }) => type === 'mask.lost');
    const details = lost.map((entry) => ('detail' in entry ? entry.detail : {}));
    expect(details.map(({ path, restored }) => [path, restored]).sort()).toEqual(
      replaced.map((name) => [join(workdir, name), true]).sort(),
    );
    const outside = await place.outside(['sh', '-c', script], { cwd: workdir });
    expect(outside.stdout).toContain(
      'wrote .git/config\nwrote .npmrc\nwrote .mcp.json\nKEY=sk_live_2',
    );
  },
  { timeoutMs: 60_000 },
);

verifies(
  'fsw.mask-lost',
  'a protected name that is taken away and stays away ends the run, and a whole tree does not',
  async () => {
    await using place = await openPlace();
    mkdirSync(join(place.workdir, 'libs/inner/.git'), { recursive: true });
    place.put('libs/inner/.git/HEAD', 'ref: refs/heads/main\n');
    own(place.workdir);
    const started = place.start([], ['sleep', '60']);
    await place.openRun();
    const whole = ['rm', '-rf', join(place.workdir, 'libs')];
    expect((await place.outside(whole)).status).toBe(0);
    await sleep(2_000);
    expect((await place.status()).runs, 'without the tree').toHaveLength(1);
    const gone = ['rmdir', join(place.workdir, '.claude')];
    expect((await place.outside(gone)).status).toBe(0);
    expect((await started.ended).status).toBe(69);
    expect(started.stderr()).toContain('cannot be protected any more: the run ends');
    const entries = await place.entries();
    const detail = { path: join(place.workdir, '.claude'), restored: false };
    expect(entries.at(-2)).toMatchObject({ type: 'mask.lost', detail });
    expect(entries.at(-1)).toMatchObject({ type: 'run.close' });
  },
  { timeoutMs: 30_000 },
);

verifies(
  'fsw.exchanged',
  'an agent finds the folders that the ledger names, whatever is put in their place meanwhile',
  async () => {
    using folder = scratch();
    await using place = await openPlace();
    const at = (...names: string[]) => join(folder.path, ...names);
    for (const name of ['meant', 'other']) {
      mkdirSync(at(name));
      writeFileSync(at(name, 'name.txt'), at(name));
    }
    own(folder.path);
    const swap = [
      'while :; do mv meant aside; ln -s other meant; sleep 0.03;',
      'rm -f meant; mv aside meant; sleep 0.03; done 2> /dev/null',
    ].join(' ');
    const { uid, gid } = agentIds();
    const swapper = spawn('sh', ['-c', swap], {
      cwd: folder.path,
      stdio: 'ignore',
      ...(root ? { uid, gid } : {}),
    });
    const read = ['sh', '-c', 'cat "$0"/name.txt 2> /dev/null || cat "$1"/name.txt'];
    const seen = [...read, at('meant'), at('other')];
    const recorded = {
      '--workdir': (path: string) => ({ workdir: path }),
      '--allow-read': (path: string) => ({ paths: { read: [path], write: [] } }),
      '--allow-write': (path: string) => ({ paths: { read: [], write: [path] } }),
    };
    let refused = 0;
    try {
      for (let i = 0; i < 7; i++) {
        for (const [flag, entry] of Object.entries(recorded)) {
          const run = await place.run([flag, at('meant')], seen);
          if (run.status !== 0) {
            expect(run.stderr).toContain('belay: error');
            refused++;
            continue;
          }
          const [opened] = await place.entries(run.summary?.run);
          expect(opened).toMatchObject({ type: 'run.open', ...entry(run.stdout) });
        }
      }
    } finally {
      swapper.kill('SIGKILL');
    }
    expect(refused, 'runs with a folder that was exchanged').toBeGreaterThan(0);
  },
  { timeoutMs: 60_000 },
);
