// What an agent is hired for works inside as it does outside: clone, install, download, build, test,
// and a dev server in the user's browser, under presets and `--allow`. Each task is done bare first,
// by the same user with the same fresh caches: that is its control, and what its time is printed
// against. Hosts that a closed network lacks have twins on the loopback; the npm registry is the one
// that this host is configured for.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Finished } from '../installed.ts';
import { ROOT } from '../packed.ts';
import { verifies } from '../verifies.ts';
import { registryOfHost, serveGit } from './honest-services.ts';
import {
  type ConfigParts,
  eventually,
  NODE,
  openPlace,
  type Place,
  type RunResult,
} from './place.ts';
import { scratch, startUpstream } from './upstreams.ts';

const TIMEOUT_MS = 60_000;

/** A place whose daemon runs already: its start is no part of a task. */
async function warmPlace(parts: ConfigParts = {}): Promise<Place> {
  const place = await openPlace(parts);
  expectDone(await place.run([], ['true']), 'the first run');
  return place;
}

/** Bare or inside, with a home and a cache that nobody used before. */
function bare(place: Place, command: readonly string[], cwd?: string): Promise<Finished> {
  const where = cwd === undefined ? {} : { cwd };
  return place.session.exec(command, { timeoutMs: TIMEOUT_MS, ...where });
}

function inside(
  place: Place,
  flags: readonly string[],
  command: readonly string[],
): Promise<RunResult> {
  return place.run(flags, command, { timeoutMs: TIMEOUT_MS });
}

function expectDone(finished: Finished, where: string): void {
  expect(finished.status, `${where}: ${finished.stdout}\n${finished.stderr}`).toBe(0);
}

/** Never asserted: a figure of a busy host says little, and a line says it. */
function printTimes(task: string, insideMs: number, bareMs: number): void {
  const [ours, theirs] = [insideMs, bareMs].map((ms) => `${(ms / 1000).toFixed(2)} s`);
  process.stdout.write(`honest work: ${task}: ${ours} inside, ${theirs} bare\n`);
}

verifies(
  'run.honest-work',
  '`git clone` over https brings a repository in, under the preset `github-read`',
  async () => {
    using projects = scratch();
    const script = [
      'git init -q -b main work && cd work',
      'for i in $(seq 300); do echo "line $i of a file" > "file-$i.txt"; done',
      'git add . && git -c user.name=Some -c user.email=some@one.example commit -qm first',
      'git clone -q --bare . ../some/project.git',
    ].join('\n');
    mkdirSync(join(projects.path, 'some'));
    await using upstream = await startUpstream(['github.com', 'localhost']);
    upstream.answer = serveGit(projects.path);
    await using place = await warmPlace({ upstreams: { 'github.com': upstream } });
    expectDone(await bare(place, ['sh', '-ec', script], projects.path), 'the project');

    const { port } = new URL(`tcp://${upstream.address}`);
    const trusted = ['-c', `http.sslCAInfo=${projects.put('ca.pem', upstream.caPem)}`];
    const local = `https://localhost:${port}/some/project.git`;
    const outside = await bare(place, ['git', ...trusted, 'clone', '-q', local, 'bare']);
    expectDone(outside, 'bare');
    const url = 'https://github.com/some/project.git';
    const cloned = await inside(place, ['--allow', 'github-read'], ['git', 'clone', '-q', url]);
    expectDone(cloned, 'inside');
    expect(cloned.summary).toMatchObject({ denials: 0 });
    const last = readFileSync(join(place.workdir, 'project/file-300.txt'), 'utf8');
    expect(last).toBe('line 300 of a file\n');
    printTimes('git clone', cloned.durationMs, outside.durationMs);

    // The control of the preset: without it the same clone is refused.
    const refused = await inside(place, [], ['git', 'clone', '-q', url, 'other']);
    expect(refused.status).not.toBe(0);
    expect(refused.summary?.denials).toBeGreaterThan(0);
  },
  { timeoutMs: 60_000, skip: existsSync('/usr/bin/git') ? undefined : 'no git on this host' },
);

verifies(
  'run.honest-work',
  '`npm ci` installs real packages from the registry of this host',
  async (context) => {
    await using place = await warmPlace();
    const names = ['picocolors', 'picomatch', 'pathe', 'nanoid'];
    const registry = await registryOfHost();
    if (typeof registry === 'string') return context.skip(registry);
    const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
      readonly packages: Readonly<Record<string, { version: string; integrity: string }>>;
    };
    const locked = names.flatMap((name) => {
      const found = packages[`node_modules/${name}`];
      return found === undefined ? [] : [{ name, ...found }];
    });
    expect(locked.length, 'packages that the lock of this repository has').toBeGreaterThan(1);
    const dependencies = Object.fromEntries(locked.map(({ name, version }) => [name, version]));
    const project = { name: 'honest', version: '1.0.0', dependencies };
    const lock = {
      ...{ name: 'honest', version: '1.0.0', lockfileVersion: 3, requires: true },
      packages: {
        '': project,
        ...Object.fromEntries(
          locked.map(({ name, version, integrity }) => [
            `node_modules/${name}`,
            { version, integrity },
          ]),
        ),
      },
    };
    const npmCi = ['npm', 'ci', '--no-audit', '--no-fund', `--registry=${registry.url}`];

    using folder = scratch();
    folder.put('package.json', JSON.stringify(project));
    folder.put('package-lock.json', JSON.stringify(lock));
    const outside = await bare(
      place,
      [...npmCi, ...registry.trusted, '--fetch-retries=0', '--fetch-timeout=20000'],
      folder.path,
    );
    if (outside.status !== 0) {
      context.skip(`\`npm ci\` does not work bare on this host: ${outside.stderr.slice(0, 200)}`);
    }
    place.configure({ upstreams: { [registry.host]: registry.declared } });
    place.put('package.json', JSON.stringify(project));
    place.put('package-lock.json', JSON.stringify(lock));
    const allow = registry.host === 'registry.npmjs.org' ? 'npm-read' : registry.allow;
    const done = await inside(place, ['--allow', allow], npmCi);
    expectDone(done, 'inside');
    expect(done.summary).toMatchObject({ denials: 0 });
    expect(done.summary?.calls).toBeGreaterThanOrEqual(locked.length);
    for (const { name, version } of locked) {
      const path = join(place.workdir, 'node_modules', name, 'package.json');
      expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ name, version });
    }
    printTimes(`npm ci of ${locked.length} packages`, done.durationMs, outside.durationMs);
  },
  { timeoutMs: 90_000 },
);

/** Writes a wheel (PEP 427) with nothing in it but itself. */
const WHEEL = `import sys, zipfile
name = 'honest_work-1.0.0'
files = {
    'honest_work.py': 'answer = 42\\n',
    name + '.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: honest-work\\nVersion: 1.0.0\\n',
    name + '.dist-info/WHEEL': 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n',
    name + '.dist-info/RECORD': '',
}
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    for path, text in files.items():
        wheel.writestr(path, text)
`;

verifies(
  'run.honest-work',
  '`pip download` gets a wheel from its index, and python imports it',
  async (context) => {
    using folder = scratch();
    await using upstream = await startUpstream(['pypi.org', 'localhost']);
    await using place = await warmPlace({ upstreams: { 'pypi.org': upstream } });
    const pip = ['/usr/bin/python3', '-m', 'pip', '--disable-pip-version-check'];
    const has = await bare(place, [...pip, '--version']);
    if (has.status !== 0) context.skip('no pip for /usr/bin/python3 on this host');
    const file = 'honest_work-1.0.0-py3-none-any.whl';
    const path = join(folder.path, file);
    expectDone(await bare(place, ['/usr/bin/python3', '-c', WHEEL, path]), 'the wheel');
    upstream.answer = (_request, reply, { url }) => {
      if (url === '/simple/honest-work/') {
        reply.setHeader('content-type', 'text/html');
        reply.end(`<!doctype html><a href="/files/${file}">${file}</a>`);
      } else if (url === `/files/${file}`) reply.end(readFileSync(path));
      else reply.writeHead(404).end();
    };
    const { port } = new URL(`tcp://${upstream.address}`);
    const index = ['--index-url', `https://localhost:${port}/simple`];
    const trusted = ['--cert', folder.put('ca.pem', upstream.caPem)];
    const what = ['download', '--no-cache-dir', 'honest-work==1.0.0'];
    const outside = await bare(place, [...pip, ...what, ...index, ...trusted, '-d', 'bare']);
    expectDone(outside, 'bare');
    const command = [...pip, ...what, '-d', 'wheels'];
    const done = await inside(place, ['--allow', 'pypi.org'], command);
    expectDone(done, 'inside');
    expect(done.summary).toMatchObject({ denials: 0 });
    const imports = `import sys; sys.path.insert(0, 'wheels/${file}')
import honest_work; print(honest_work.answer)`;
    const used = await inside(place, [], ['/usr/bin/python3', '-c', imports]);
    expect(used).toMatchObject({ status: 0, stdout: '42\n' });
    printTimes('pip download', done.durationMs, outside.durationMs);
  },
  {
    timeoutMs: 90_000,
    skip: existsSync('/usr/bin/python3') ? undefined : 'no /usr/bin/python3 on this host',
  },
);

const VITE = join(ROOT, 'node_modules/vite/bin/vite.js');

verifies(
  'run.honest-work',
  'the dev server of vite is reached through `--publish`, and sees a change of its sources',
  async () => {
    await using place = await warmPlace();
    place.put('package.json', '{ "name": "honest", "type": "module" }\n');
    place.put('index.html', '<!doctype html><script type="module" src="/main.ts"></script>\n');
    place.put('main.ts', 'const text: string = "first";\ndocument.title = text;\n');
    const serve = (port: number): readonly string[] => [
      ...[NODE, VITE, '--host', '127.0.0.1', '--port', String(port), '--strictPort'],
    ];
    /** From the start until the page and its transformed script are there. */
    const untilServed = async (port: number, startedMs: number): Promise<number> => {
      await eventually('the page', () => page(port, '/'), 30_000);
      expect(await page(port, '/')).toContain('/main.ts');
      const script = await page(port, '/main.ts');
      expect(script).toContain('const text = "first"');
      return performance.now() - startedMs;
    };
    const bareRoom = scratch();
    using _room = bareRoom;
    for (const name of ['package.json', 'index.html', 'main.ts']) {
      bareRoom.put(name, readFileSync(join(place.workdir, name), 'utf8'));
    }
    const barePort = await freePort();
    const bareStartMs = performance.now();
    const [program = '', ...args] = serve(barePort);
    const server = spawn(program, args, { cwd: bareRoom.path, stdio: 'ignore' });
    const bareMs = await untilServed(barePort, bareStartMs).finally(() => server.kill('SIGKILL'));

    const port = await freePort();
    const startMs = performance.now();
    const flags = ['--publish', `${port}:5173`, '--allow-read', join(ROOT, 'node_modules')];
    const started = place.start(flags, serve(5173));
    const run = await place.openRun();
    const insideMs = await untilServed(port, startMs).catch((error: unknown) => {
      throw new Error(`${started.stdout()}\n${started.stderr()}`, { cause: error });
    });
    place.put('main.ts', 'const text: string = "second";\ndocument.title = text;\n');
    await eventually('the changed script', async () => {
      return (await page(port, '/main.ts')).includes('"second"') || undefined;
    });
    await place.session.belay(['kill', run]);
    await started.ended;
    printTimes('first page of vite', insideMs, bareMs);
  },
  { timeoutMs: 60_000, skip: existsSync(VITE) ? undefined : 'vite is not installed here' },
);

function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

function page(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, agent: false };
    const asked = get(options, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      answer.on('end', () => (answer.statusCode === 200 ? resolve(text) : reject(new Error(text))));
      answer.on('error', reject);
    });
    asked.setTimeout(5_000, () => asked.destroy(new Error('no answer')));
    asked.on('error', reject);
  });
}

const SUITE = `import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { mkdtempSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

test('a server of its own', async () => {
  const server = createServer((_, reply) => reply.end('own')).listen(0);
  const answer = await fetch('http://localhost:' + server.address().port);
  assert.equal(await answer.text(), 'own');
  server.closeAllConnections();
  server.close();
});
test('a child', () => {
  assert.equal(spawnSync('sh', ['-c', 'echo $HOME'], { encoding: 'utf8' }).status, 0);
});
test('a worker', async () => {
  const worker = new Worker('require("worker_threads").parentPort.postMessage(7)', { eval: true });
  assert.equal(await new Promise((done) => worker.once('message', done)), 7);
});
test('a watched folder', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'watched-'));
  const watcher = watch(folder);
  const seen = new Promise((done) => watcher.once('change', done));
  writeFileSync(join(folder, 'file'), 'x');
  await seen;
  watcher.close();
});
`;

verifies(
  'run.honest-work',
  '`node --test` of a suite with a server, a child, a worker and a watched folder passes',
  async () => {
    await using place = await warmPlace();
    for (const name of ['one', 'two', 'three']) place.put(`${name}.test.mjs`, SUITE);
    const command = [NODE, '--test'];
    const outside = await bare(place, command);
    expectDone(outside, 'bare');
    const done = await inside(place, [], command);
    expectDone(done, 'inside');
    expect(done.stdout).toMatch(/pass 12$/m);
    printTimes('node --test', done.durationMs, outside.durationMs);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'run.honest-work',
  '`make -j2` builds and runs a C program of several files',
  async () => {
    await using place = await warmPlace();
    using folder = scratch();
    const parts = Array.from({ length: 12 }, (_, i) => i);
    const files: Record<string, string> = {
      Makefile: [
        `OBJECTS = main.o ${parts.map((i) => `part${i}.o`).join(' ')}`,
        'check: program\n\t./program',
        'program: $(OBJECTS)\n\t$(CC) -o $@ $(OBJECTS)',
        'clean:\n\trm -f program $(OBJECTS)\n',
      ].join('\n'),
      'main.c': [
        '#include <stdio.h>',
        ...parts.map((i) => `int part${i}(void);`),
        `int main(void) { printf("%d\\n", ${parts.map((i) => `part${i}()`).join(' + ')}); }\n`,
      ].join('\n'),
      ...Object.fromEntries(
        parts.map((i) => [
          `part${i}.c`,
          `#include <stdlib.h>\nint part${i}(void) { return ${i}; }\n`,
        ]),
      ),
    };
    for (const [name, text] of Object.entries(files)) {
      place.put(name, text);
      folder.put(name, text);
    }
    const outside = await bare(place, ['make', '-j2'], folder.path);
    expectDone(outside, 'bare');
    const done = await inside(place, [], ['make', '-j2']);
    expectDone(done, 'inside');
    expect(done.stdout).toMatch(/^66$/m);
    printTimes('make -j2', done.durationMs, outside.durationMs);
  },
  {
    timeoutMs: 60_000,
    skip: ['make', 'cc'].every((name) => existsSync(`/usr/bin/${name}`))
      ? undefined
      : 'no make or no C compiler on this host',
  },
);
