// An agent outside any sandbox: what it sends through the explicit proxy is governed like every other
// call, what the proxy does not know is turned away, and nobody is left to think that it is contained.

import { chmodSync, chownSync, globSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { ORDINARY_UID } from '../installed.ts';
import { verifies } from '../verifies.ts';
import { denials, eventually, isAlive, openPlace, type Place, quietPort } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const EXTERNAL = ['--containment', 'external'];
const KEY = 'a-key-that-the-agent-never-sees';
const root = process.getuid?.() === 0;

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream(['api.example']);
  place = await openPlace({
    allow: ['api.example'],
    upstreams: { 'api.example': upstream },
    credentials: {
      api: {
        from: 'env:API_KEY',
        environment: 'local',
        host: 'api.example',
        methods: ['GET'],
        paths: ['/**'],
        header: 'authorization',
        variable: 'API_KEY',
      },
    },
  });
  if (root) {
    chownSync(place.workdir, ORDINARY_UID, ORDINARY_UID);
    for (const name of readdirSync(place.workdir)) {
      chownSync(join(place.workdir, name), ORDINARY_UID, ORDINARY_UID);
    }
  }
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

verifies(
  ['run.external', 'gw.proxy-407'],
  'an agent outside a sandbox is governed through the proxy, and everybody hears that it is outside',
  async () => {
    const get = (host: string, more = ''): string =>
      `curl -sS -m 10 -w ' %{http_connect} %{http_code}' ${more} https://${host}/x 2>&1 | tr '\\n' ' '; echo`;
    const script = [
      'id -u',
      'echo "key $API_KEY"',
      get('api.example', '-H "authorization: $API_KEY"'),
      get('denied.example'),
      // The same proxy, without the run's token, and with another one.
      'bare=$(echo "$HTTPS_PROXY" | sed "s,//.*@,//,")',
      get('api.example', '-x "$bare"'),
      'user=$(echo "$HTTPS_PROXY" | sed "s,.*//\\(.*\\):.*@.*,\\1,")',
      get('api.example', '-x "$bare" -U "$user:guess"'),
      'echo "$HTTPS_PROXY" > proxy.txt',
    ].join('\n');
    const env = { API_KEY: KEY, NO_PROXY: '*', no_proxy: '*' };
    const run = await place.run(EXTERNAL, ['sh', '-c', script], { env });
    expect(run.status).toBe(0);
    expect(run.stderr).toContain('no sandbox');
    const [uid, key, allowed, denied, bare, guessed] = run.stdout.split('\n');
    expect(uid).toBe(String(root ? ORDINARY_UID : process.getuid?.()));
    expect(key).toMatch(/^key blp-/);
    expect(allowed).toMatch(/ 200 200$/);
    expect(denied).toMatch(/belay_denied.* 200 403$/);
    for (const answer of [bare, guessed]) expect(answer).toContain('407');
    expect(upstream.arrivals.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/x', KEY],
    ]);

    const entries = await place.entries(run.summary?.run);
    expect(entries.find(({ type }) => type === 'run.open')).toMatchObject({
      containment: 'external',
    });
    expect(entries.filter(({ type }) => type === 'intent')).toHaveLength(1);
    expect(denials(entries).map(({ host }) => host)).toEqual(['denied.example']);

    // The token died with its run.
    const proxy = readFileSync(join(place.workdir, 'proxy.txt'), 'utf8').trim();
    const after = ['curl', '-sS', '-m', '10', '-x', proxy, 'https://api.example/after'];
    const late = await place.outside(after);
    expect(late.stderr).toContain('407');
    expect(upstream.arrivals).toHaveLength(1);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'run.external',
  'a kill and the death of the daemon end an agent outside a sandbox, which `ps` shows as such',
  async () => {
    for (const how of ['kill', 'daemon']) {
      const command = ['sh', '-c', 'sleep 300 & echo $$ $! > pid.txt; wait'];
      const started = place.start(EXTERNAL, command, { env: { API_KEY: KEY } });
      const id = await place.openRun();
      const pids = await eventually('the agent', () => {
        const text = readFileSync(join(place.workdir, 'pid.txt'), 'utf8').trim();
        return text === '' ? undefined : text.split(' ').map(Number);
      });
      expect(pids.filter(isAlive)).toEqual(pids);
      const { stdout } = await place.session.belay(['ps', '--json']);
      expect(JSON.parse(stdout).runs).toMatchObject([{ run: id, containment: 'external' }]);
      if (how === 'kill') await place.session.belay(['kill', id]);
      else process.kill((await place.status()).pid, 'SIGKILL');
      const { status } = await started.ended;
      expect(status, started.stderr()).toBe(5);
      if (how === 'daemon') expect(started.stderr()).toContain('the daemon died');
      await eventually('end of the agent', () => !pids.some(isAlive) || undefined);
      writeFileSync(join(place.workdir, 'pid.txt'), '');
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  'identity.stolen-token',
  'a stolen token is worth nothing in a sandbox, at another proxy, for another run, or after its own',
  async () => {
    const env = { API_KEY: KEY };
    upstream.arrivals.length = 0;
    place.put('proxy.txt', '');
    chmodSync(join(place.workdir, 'proxy.txt'), 0o666);
    const command = ['sh', '-c', 'echo "$HTTPS_PROXY" > proxy.txt; sleep 300'];
    const victim = place.start(EXTERNAL, command, { env });
    const proxy = await eventually('a token', () => {
      return readFileSync(join(place.workdir, 'proxy.txt'), 'utf8').trim() || undefined;
    });
    const { port, username: run, password: token } = new URL(proxy);
    const url = 'https://api.example/stolen';
    const ask = (by: string) =>
      place.outside(['curl', '-sS', '-m', '10', '-w', ' %{http_connect}', '-x', by, '-k', url]);

    // The control: outside a sandbox whoever holds it passes for the run.
    expect((await ask(proxy)).stdout).toContain('200');
    expect(upstream.arrivals).toHaveLength(1);
    // What it let in is cut with the grant, which ends when it does.
    const opened = (await place.entries(run)).find((entry) => entry.type === 'run.open');
    const life = (opened?.expiresAt ?? Number.POSITIVE_INFINITY) - (opened?.ts ?? 0);
    expect(life).toBeLessThanOrEqual(12 * 3_600_000);
    expect(life).toBeGreaterThan(11 * 3_600_000);

    // From inside a sandbox: the proxy is out of reach, and the field means nothing to the gateway.
    const own = Object.values(networkInterfaces())
      .flatMap((found = []) => found)
      .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
    const ways = ['127.0.0.1', ...(own === undefined ? [] : [own])].map(
      (host) =>
        `curl -s -m 5 -k -o /dev/null -w '%{http_connect}\\n' -x ${proxy.replace('127.0.0.1', host)} ${url}`,
    );
    const basic = Buffer.from(`${run}:${token}`).toString('base64');
    const field = `-H 'Proxy-Authorization: Basic ${basic}'`;
    const script = [
      ...ways,
      `curl -s -m 5 -o /dev/null -w '%{http_code}\\n' ${field} https://api.example/own`,
      `curl -s -m 5 -o /dev/null -w '%{http_code}\\n' -p -x http://${run}:${token}@api.example:80 http://api.example/tunnelled`,
    ].join('\n');
    // As an argument it would be in the ledger, where the commands of runs are.
    place.put('thief.sh', script);
    const thief = await place.run([], ['sh', 'thief.sh'], { env, timeoutMs: 60_000 });
    const said = thief.stdout.trim().split('\n');
    expect(said.slice(0, ways.length).every((code) => code !== '200')).toBe(true);
    const arrived = upstream.arrivals.slice(1);
    expect(arrived.every((arrival) => arrival.headers['proxy-authorization'] === undefined)).toBe(
      true,
    );
    // Whatever passed is the thief's own.
    const entries = await place.entries();
    const intents = entries.filter((entry) => entry.type === 'intent' && entry.path !== '/x');
    expect(intents.filter((entry) => entry.run === run)).toHaveLength(1);
    for (const path of ['/own', '/tunnelled']) {
      const about = entries.filter((entry) => 'path' in entry && entry.path === path);
      expect(about.every((entry) => entry.run === thief.summary?.run)).toBe(true);
    }

    // For another run, and at another daemon's proxy.
    const other = place.start(EXTERNAL, ['sleep', '300'], { env });
    const otherRun = await eventually('another run', async () => {
      return (await place.status()).runs.find((one) => one.run !== run)?.run;
    });
    expect((await ask(proxy.replace(run, otherRun))).stdout).toContain('407');
    await using elsewhere = await openPlace({ allow: ['api.example'] });
    const free = String(await quietPort());
    elsewhere.session.start(['up', '--proxy-port', free]);
    await eventually('another proxy', async () => {
      return (await ask(proxy.replace(port, free))).stdout.includes('407') || undefined;
    });

    // Nothing that stays holds it, and a kill revokes it at once.
    const files = globSync('**', { cwd: place.session.home, withFileTypes: true });
    for (const file of files.filter((entry) => entry.isFile())) {
      const bytes = readFileSync(join(file.parentPath, file.name));
      expect(bytes.includes(token), file.name).toBe(false);
    }
    // Before its launcher has heard of it.
    victim.child.kill('SIGSTOP');
    await place.session.belay(['kill', run]);
    expect((await ask(proxy)).stdout).toContain('407');
    victim.child.kill('SIGCONT');
    expect(upstream.arrivals.filter(({ url: path }) => path === '/stolen')).toHaveLength(1);
    await place.session.belay(['kill', otherRun]);
    await Promise.all([victim.ended, other.ended]);
  },
  { timeoutMs: 90_000 },
);

verifies(
  'run.external',
  'an environment that demands a sandbox refuses a run without one',
  async () => {
    const text = readFileSync(join(place.workdir, 'belay.jsonc'), 'utf8');
    place.put('belay.jsonc', text.replace('"local": {}', '"local": { "sandbox": "required" }'));
    const env = { API_KEY: KEY };
    const demanded = await place.run(EXTERNAL, ['true'], { env });
    expect(demanded.status).toBe(2);
    expect(demanded.stderr).toContain('have to be in a sandbox');
    expect((await place.run([], ['true'], { env })).status).toBe(0);
    place.put('belay.jsonc', text);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'run.external',
  'root that owns the workspace starts no agent outside a sandbox',
  async () => {
    chownSync(place.workdir, 0, 0);
    const asRoot = await place.run(EXTERNAL, ['id'], { env: { API_KEY: KEY } });
    expect(asRoot).toMatchObject({ status: 69, stdout: '' });
    expect(asRoot.stderr).toContain('chown');
  },
  { timeoutMs: 60_000, skip: !root && 'only root can start an agent as root' },
);
