// A workspace that somebody prepared: names, kinds, depths and numbers that a launcher does not
// expect. Every run of it works, or is refused with one clear error; none hangs, and none ends with
// a stack trace.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { openPlace, type Place, type RunResult } from './place.ts';

/** After a warning, where there is one, an error is one line, and at most one hint. */
const ONE_ERROR = /^(?:belay: warning: [^\n]+\n)?belay: error: [^\n]+\n(?:belay: hint: [^\n]+\n)?$/;
const TIMEOUT_MS = 15_000;
/** Generous: the machine may be busy. */
const MOST_START_MS = 5_000;
const HUGE = { folders: 300, filesEach: 1_000 };
const LEVELS = 2_000;

interface Case {
  readonly what: string;
  /** Makes it in an empty folder. */
  readonly make: (at: (name: string) => string) => unknown;
  /** An error that is right, too; without it the run has to work. */
  readonly mayRefuse?: RegExp;
}

const fifo = (path: string): void => {
  const { status, stderr } = spawnSync('mkfifo', [path], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
};

function socket(path: string): Promise<Server> {
  const server = createServer();
  return new Promise((resolve) => server.listen(path, () => resolve(server)));
}

const CASES: readonly Case[] = [
  {
    what: 'links that go round, and up',
    make: (at) => {
      symlinkSync('b', at('a'));
      symlinkSync('a', at('b'));
      symlinkSync('self', at('self'));
      symlinkSync('..', at('up'));
      mkdirSync(at('inner'));
      symlinkSync('../inner', at('inner/again'));
      symlinkSync('.env', at('.env'));
      symlinkSync('.env.two', at('.env.one'));
      symlinkSync('.env.one', at('.env.two'));
      symlinkSync('/etc/shadow', at('.env.shadow'));
    },
  },
  {
    what: 'names with newlines, control characters and bytes that are no text',
    make: (at) => {
      for (const name of [
        'a\nb',
        '\x1b[2J',
        'tab\t',
        '\x7f',
        '-rf',
        '--',
        ' ',
        '‮txt',
        '*',
        '$(id)',
      ]) {
        writeFileSync(at(name), '');
        mkdirSync(join(at(`${name}-folder`), '.git/hooks'), { recursive: true });
        writeFileSync(at(`.env.${name}`), 'A=b\n');
      }
      writeFileSync(Buffer.concat([Buffer.from(`${at('')}/`), Buffer.of(0xff, 0xfe)]), '');
      mkdirSync(Buffer.concat([Buffer.from(`${at('')}/.env.`), Buffer.of(0xff)]));
    },
  },
  {
    what: 'a link in the place of hooks, below a name with a newline',
    make: (at) => {
      mkdirSync(at('a\nb/.git'), { recursive: true });
      symlinkSync('..', at('a\nb/.git/hooks'));
    },
    mayRefuse: /hooks/,
  },
  { what: 'a pipe named .env', make: (at) => fifo(at('.env')) },
  { what: 'a pipe named .mcp.json', make: (at) => fifo(at('.mcp.json')), mayRefuse: /\.mcp\.json/ },
  {
    what: 'a pipe in the place of settings of git',
    make: (at) => {
      mkdirSync(at('.git'));
      fifo(at('.git/config'));
    },
    mayRefuse: /\.git\/config/,
  },
  { what: 'a pipe named .git', make: (at) => fifo(at('.git')), mayRefuse: /\.git/ },
  {
    what: 'a pipe named belay.jsonc',
    make: (at) => fifo(at('belay.jsonc')),
    mayRefuse: /belay\.jsonc/,
  },
  { what: 'a pipe named policies', make: (at) => fifo(at('policies')), mayRefuse: /policies/ },
  {
    what: 'a pipe among the policies',
    make: (at) => {
      mkdirSync(at('policies'));
      fifo(at('policies/some.cedar'));
    },
    mayRefuse: /policies/,
  },
  {
    what: 'pipes with names of scripts and manifests',
    make: (at) => {
      for (const name of ['package.json', 'Makefile', 'setup.sh', '.gitignore', 'CLAUDE.md']) {
        fifo(at(name));
      }
    },
  },
  { what: 'a socket named .env', make: (at) => socket(at('.env')) },
  {
    what: 'a socket named .mcp.json',
    make: (at) => socket(at('.mcp.json')),
    mayRefuse: /\.mcp\.json/,
  },
  {
    what: 'a socket named belay.jsonc',
    make: (at) => socket(at('belay.jsonc')),
    mayRefuse: /belay\.jsonc/,
  },
  {
    what: 'folders named .env, .mcp.json and package.json',
    make: (at) => {
      for (const name of ['.env', '.mcp.json', 'package.json', '.npmrc']) mkdirSync(at(name));
      writeFileSync(at('.env/value'), 'x');
    },
  },
  {
    what: 'a folder named belay.jsonc',
    make: (at) => mkdirSync(at('belay.jsonc')),
    mayRefuse: /belay\.jsonc/,
  },
  {
    what: 'files where folders are expected',
    make: (at) => {
      for (const name of ['.claude', '.vscode', '.github', '.husky']) writeFileSync(at(name), 'x');
    },
  },
  {
    what: 'a file named policies',
    make: (at) => writeFileSync(at('policies'), ''),
    mayRefuse: /policies/,
  },
  {
    what: 'names of devices',
    make: (at) => {
      for (const name of ['dev', 'proc', 'null', 'CON', 'nul.txt', 'zero']) mkdirSync(at(name));
      writeFileSync(at('dev/null'), '');
      symlinkSync('/dev/zero', at('.env.zero'));
      symlinkSync('/dev/zero', at('package.json'));
    },
  },
  {
    what: 'folders that nobody may read',
    make: (at) => {
      for (const name of ['closed', '.git', '.claude', 'inner']) mkdirSync(at(name));
      mkdirSync(at('inner/.git'));
      writeFileSync(at('.env'), 'A=b\n', { mode: 0 });
      for (const name of ['closed', '.git', '.claude', 'inner/.git']) chmodSync(at(name), 0);
    },
    mayRefuse: /\.git/,
  },
  {
    what: 'a workspace that nobody may list',
    make: (at) => chmodSync(at('.'), 0o300),
    mayRefuse: /EACCES/,
  },
  {
    what: 'policies that nobody may read',
    make: (at) => {
      mkdirSync(at('policies'));
      chmodSync(at('policies'), 0);
    },
    mayRefuse: /policies/,
  },
  {
    what: 'a .env of one long line, and one of many quotes',
    make: (at) => {
      writeFileSync(at('.env'), `A=${'"'.repeat(200_000)}`);
      writeFileSync(at('.env.spaces'), `A=${' '.repeat(200_000)}x\n`);
      writeFileSync(at('.env.export'), `${' export '.repeat(25_000)}\n`);
      writeFileSync(at('.env.nul'), Buffer.alloc(200_000));
    },
  },
];

/** It worked, or it was refused in one line; in time either way. */
function expectClear(what: string, finished: RunResult, mayRefuse?: RegExp): void {
  const { status, stdout, stderr, timedOut } = finished;
  expect(timedOut, `${what} hangs`).toBe(false);
  expect(stderr, what).not.toMatch(/^ {4}at /m);
  if (mayRefuse !== undefined && status !== 0) {
    expect([2, 69], `${what}: ${stderr}`).toContain(status);
    expect(stderr, what).toMatch(ONE_ERROR);
    expect(stderr, what).toMatch(mayRefuse);
    return;
  }
  expect({ status, stdout }, `${what}: ${stderr}`).toEqual({ status: 0, stdout: 'works\n' });
}

let shared: Place;

beforeAll(async () => {
  shared = await openPlace();
}, 60_000);

afterAll(async () => {
  await shared?.[Symbol.asyncDispose]();
}, 60_000);

for (const [i, { what, make, mayRefuse }] of CASES.entries()) {
  verifies(
    'run.bad-workspace',
    `${what}: the run works${mayRefuse === undefined ? '' : ' or is refused with one error'}`,
    async () => {
      const folder = join(shared.workdir, `case-${i}`);
      mkdirSync(folder);
      const server = await make((name) => join(folder, name));
      try {
        const flags = ['--workdir', folder];
        const finished = await shared.run(flags, ['echo', 'works'], { timeoutMs: TIMEOUT_MS });
        expectClear(what, finished, mayRefuse);
      } finally {
        if (typeof server === 'object') (server as Server).close();
        spawnSync('chmod', ['-R', 'u+rwx', folder]);
      }
    },
    { timeoutMs: 30_000 },
  );
}

verifies(
  ['run.bad-workspace', 'fsr.dotenv'],
  'a .env that is a pipe or a socket, such as of a keeper of secrets, tells an agent nothing',
  async () => {
    const folder = join(shared.workdir, 'piped');
    mkdirSync(folder);
    fifo(join(folder, '.env'));
    symlinkSync('.env', join(folder, '.env.local'));
    const keeper = await socket(join(folder, '.env.sock'));
    const teller = setInterval(() => tell(join(folder, '.env')), 50);
    try {
      const read = 'for f in .env .env.local; do timeout 2 cat $f; done; stat -c %F .env .env.sock';
      const flags = ['--workdir', folder];
      const inside = await shared.run(flags, ['sh', '-c', read], { timeoutMs: TIMEOUT_MS });
      expect(inside.stdout, inside.stderr).toMatch(/^(?:regular (?:empty )?file\n){2}$/);
      // The control: without a sandbox the pipe tells.
      const outside = await shared.session.exec(['sh', '-c', read], { cwd: folder });
      expect(outside.stdout).toMatch(/KEY=of-the-keeper[\s\S]*fifo\nsocket\n$/);
    } finally {
      clearInterval(teller);
      keeper.close();
    }
  },
  { timeoutMs: 30_000 },
);

/** Writes to a pipe if somebody reads it. */
function tell(path: string): void {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    writeSync(fd, 'KEY=of-the-keeper\n');
    closeSync(fd);
  } catch {
    // Nobody reads it now.
  }
}

verifies(
  'run.bad-workspace',
  'what an agent leaves behind, such as pipes in the place of scripts, is listed at the end',
  async () => {
    await using place = await openPlace();
    const script = [
      'mkfifo Makefile package.json .env.late',
      'ln -s loop loop',
      'mkdir -p "sub\nfolder/.git/hooks" && echo x > "sub\nfolder/.git/hooks/post-checkout"',
      'printf x > "$(printf \'esc\\033[2J.sh\')"',
      'mkdir closed && mkfifo closed/setup.sh && chmod 0 closed',
      'echo works',
    ].join('\n');
    const finished = await place.run([], ['sh', '-ec', script], { timeoutMs: TIMEOUT_MS });
    expectClear('the run', finished);
    expect(finished.stderr).not.toContain('\x1b[2J');
    const entries = await place.entries(finished.summary?.run);
    expect(JSON.stringify(entries)).toContain('Makefile');
    expectClear('the next', await place.run([], ['echo', 'works'], { timeoutMs: TIMEOUT_MS }));
    // In words, as a person reads them.
    const told = await place.session.belay(['run', '--', 'mkfifo', 'justfile']);
    expect(told.stderr).toContain('belay: added justfile');
    spawnSync('chmod', ['-R', 'u+rwx', place.workdir]);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'run.bad-workspace',
  'a hundred repositories in a workspace do not keep a run from starting, and the rest is told',
  async () => {
    for (let i = 0; i < 100; i++) {
      mkdirSync(join(shared.workdir, `many/project-${i}/.git/hooks`), { recursive: true });
    }
    const flags = ['--workdir', join(shared.workdir, 'many')];
    const finished = await shared.run(flags, ['echo', 'works'], { timeoutMs: TIMEOUT_MS });
    expectClear('the run', finished);
    expect(finished.stderr).toMatch(/^belay: warning: \d+ folders were not searched/m);
  },
  { timeoutMs: 30_000 },
);

verifies(
  'run.bad-workspace',
  'a workspace 2,000 folders deep works, with a repository at the bottom',
  async () => {
    await using place = await openPlace();
    try {
      const dig = `for (1..${LEVELS}) { mkdir 'd' or die $!; chdir 'd' or die $! } mkdir '.git' or die $!`;
      expect((await place.session.exec(['perl', '-e', dig])).status).toBe(0);
      const finished = await place.run([], ['echo', 'works'], { timeoutMs: TIMEOUT_MS });
      expectClear('the run', finished);
      expect(finished.stderr).toMatch(/^belay: warning: 1 folder was not searched/m);
      const deeper = `chdir 'd' or die $! for 1..${LEVELS}; mkdir 'e' or die $!; print "works\\n"`;
      expectClear(
        'its work',
        await place.run([], ['perl', '-e', deeper], { timeoutMs: TIMEOUT_MS }),
      );
      expect(readdirSync(place.workdir)).toContain('d');
    } finally {
      // Paths of this length are more than one call of the system takes.
      spawnSync('rm', ['-rf', join(place.workdir, 'd')]);
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  'run.bad-workspace',
  'a workspace of 300,000 files starts as soon as another',
  async () => {
    await using place = await openPlace();
    expect((await place.run([], ['true'])).status).toBe(0);
    for (let i = 0; i < HUGE.folders; i++) {
      const folder = join(place.workdir, `folder-${i}`);
      mkdirSync(folder);
      // Names of one file: what a launcher walks are names, and these are made in no time.
      const first = join(folder, '0.txt');
      writeFileSync(first, '');
      for (let j = 1; j < HUGE.filesEach; j++) linkSync(first, join(folder, `${j}.txt`));
    }
    const starts: number[] = [];
    for (let i = 0; i < 3; i++) {
      const { status, stderr, durationMs } = await place.run([], ['true']);
      expect(status, stderr).toBe(0);
      starts.push(Math.round(durationMs));
    }
    process.stdout.write(`300,000 files: \`belay run -- true\` in ${starts.join(', ')} ms\n`);
    expect(Math.min(...starts)).toBeLessThan(MOST_START_MS);
    spawnSync('sh', ['-c', 'rm -rf folder-*'], { cwd: place.workdir });
  },
  { timeoutMs: 120_000 },
);
