// What an upstream sends back of the credentials that it was given. It echoes the real value of each of
// two agents, in two environments and at once, in every form that servers do; neither agent may get it.

import { createHash } from 'node:crypto';
import { globSync, readFileSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { brotliCompressSync, deflateSync, gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const env = {
  ...{ ONE: `stag/ing+c"n'ry&1!==`, TWO: 'prod/uct?ion c"n<ry>~(22)', PASSWORD: 'pass:word+1' },
  ...{ CLIENT: 'client-0123', PAIR: 'client-0123:secret-part' },
};
const AGENTS = { one: { key: env.ONE }, two: { key: env.TWO } } as const;
type Agent = keyof typeof AGENTS;
/** RFC 6455 section 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const stars = (text: string) => '*'.repeat(text.length);

let upstream: Upstream;
let place: Place;
/** Every text that left the upstream, before any coding: the control. */
const said: string[] = [];

beforeAll(async () => {
  upstream = await startUpstream(['api.example', 'other.example']);
  place = await openPlace();
  const key = (environment: string, from: string) => ({
    ...{ from, environment, host: 'api.example', methods: ['GET', 'HEAD'], paths: ['/**'] },
    ...{ header: 'x-key', variable: 'KEY' },
  });
  const pair = (from: string) => ({
    ...{ from, environment: 'staging', host: 'api.example', methods: ['GET'], paths: ['/pair/**'] },
  });
  const allow = ['api.example', 'other.example'];
  place.put('ca.pem', upstream.caPem);
  const declared = { address: upstream.address, tls: { ca: './ca.pem' } };
  const config = {
    version: 1,
    agents: { one: { environment: 'staging' }, two: { environment: 'production' } },
    environments: { staging: {}, production: {} },
    grants: [
      { agent: 'one', environment: 'staging', allow },
      { agent: 'two', environment: 'production', allow },
    ],
    credentials: {
      's-key': key('staging', 'env:ONE'),
      'p-key': key('production', 'env:TWO'),
      client: { ...pair('env:CLIENT'), header: 'x-client' },
      pair: { ...pair('env:PAIR'), header: 'x-pair' },
      basic: {
        ...{ from: 'env:PASSWORD', environment: 'staging', host: 'api.example' },
        ...{ methods: ['GET'], paths: ['/basic'], basic: 'bot' },
      },
    },
    upstreams: { 'api.example': declared, 'other.example': declared },
  };
  place.put('belay.jsonc', JSON.stringify(config));
}, 60_000);

afterEach(() => {
  upstream.arrivals.length = 0;
  said.length = 0;
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

const keyOf = ({ headers }: IncomingMessage) => headers['x-key'] as string;

function say(reply: ServerResponse, text: string): void {
  said.push(text);
  reply.end(text);
}

/** What each agent's curl got, head and body unless `args` says otherwise; `pipe` is after it. */
async function got(asked: string, args = '-i', pipe = ''): Promise<Record<Agent, string>> {
  const url = asked.includes('.') ? asked : `api.example/${asked}`;
  const script = `curl -sS --max-time 10 ${args} 'https://${url}' ${pipe}`;
  const ask = async (agent: Agent) => {
    const { results } = await place.attempt(['--agent', agent], [['shell', script]], { env });
    const { status, out, err } = results[0]?.value ?? {};
    expect(status, err).toBe(0);
    return out as string;
  };
  const [one, two] = await Promise.all([ask('one'), ask('two')]);
  return { one, two };
}

const each = Object.entries(AGENTS) as [Agent, { readonly key: string }][];

verifies(
  'vault.canary-plain',
  'a value in a field, a body or a trailer comes back as stars of its length',
  async () => {
    upstream.answer = (request, reply) => {
      const key = keyOf(request);
      const text = `[${key}] twice ${key}${key}, and ${key.slice(0, -1)}`;
      said.push(text);
      reply.writeHead(request.url === '/401' ? 401 : 200, {
        'x-echo': `a ${key} b`,
        ...(request.url === '/trailer'
          ? { trailer: 'x-last' }
          : { 'content-length': Buffer.byteLength(text) }),
      });
      reply.write(text);
      if (request.url === '/trailer') reply.addTrailers({ 'x-last': key });
      reply.end();
    };
    for (const path of ['plain', '401', 'trailer']) {
      const heard = await got(path);
      for (const [agent, { key }] of each) {
        const hidden = stars(key);
        expect(heard[agent]).toContain(`x-echo: a ${hidden} b`);
        expect(heard[agent]).toContain(
          `[${hidden}] twice ${hidden}${hidden}, and ${key.slice(0, -1)}`,
        );
        if (path === 'trailer') expect(heard[agent]).toContain(`x-last: ${hidden}`);
        expect(heard[agent]).not.toContain(key);
        expect(said.join()).toContain(key);
      }
    }
    upstream.upgrade = (request, socket) => {
      const echo = Buffer.from(`<${keyOf(request)}>`);
      expect(request.headers['sec-websocket-extensions']).toBeUndefined();
      const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${GUID}`);
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept.digest('base64')}\r\n\r\n`,
      );
      socket.once('data', () => {
        socket.write(Buffer.concat([Buffer.of(0x81, echo.length), echo]));
        socket.once('data', () => socket.end(Buffer.of(0x88, 0)));
      });
    };
    for (const [agent, { key }] of each) {
      const asked = ['webSocket', 'wss://api.example/ws', ['hello']] as const;
      const { results } = await place.attempt(['--agent', agent], [asked], { env });
      expect(results[0]?.value.heard).toEqual([`<${stars(key)}>`]);
    }
    const entries = await place.entries();
    const outcomes = entries.filter((entry) => entry.type === 'outcome');
    expect(outcomes.map(({ redacted }) => redacted?.join()).sort()).toEqual(
      ['p-key', 's-key'].flatMap((name) => [name, name, name, name]),
    );
    const run = outcomes.at(-1)?.run ?? '';
    const { stdout } = await place.session.belay(['show', run]);
    expect(stdout).toMatch(/redacted: [ps]-key/);
  },
  { timeoutMs: 60_000 },
);

/** As a writer of another language or framework has them: of the one agent and of the other. */
const written = (one: string, two: string) => (key: string) => (key === env.ONE ? one : two);
const html = (one: string, two: string) => {
  const value = written(one, two);
  return (key: string) => `<b>${value(key)}</b>`;
};

const FORMS: Readonly<Record<string, (key: string) => string>> = {
  json: (key) => JSON.stringify({ key }),
  'json-php': written(
    String.raw`{"k":"stag\/ing+c\"n'ry&1!=="}`,
    String.raw`{"k":"prod\/uct?ion c\"n<ry>~(22)"}`,
  ),
  'json-go': written(
    String.raw`{"k":"stag/ing+c\"n'ry\u00261!=="}`,
    String.raw`{"k":"prod/uct?ion c\"n\u003cry\u003e~(22)"}`,
  ),
  'json-gson': written(
    String.raw`{"k":"stag/ing+c\"n\u0027ry\u00261!\u003d\u003d"}`,
    String.raw`{"k":"prod/uct?ion c\"n\u003cry\u003e~(22)"}`,
  ),
  'json-dotnet': written(
    String.raw`{"k":"stag/ing\u002Bc\u0022n\u0027ry\u00261!=="}`,
    String.raw`{"k":"prod/uct?ion c\u0022n\u003Cry\u003E~(22)"}`,
  ),
  url: (key) => `?k=${encodeURIComponent(key)}&`,
  'url-lower': written(
    "?k=stag%2fing%2bc%22n'ry%261!%3d%3d",
    '?k=prod%2fuct%3fion%20c%22n%3cry%3e~(22)',
  ),
  'url-python': written(
    '?k=stag/ing%2Bc%22n%27ry%261%21%3D%3D',
    '?k=prod/uct%3Fion%20c%22n%3Cry%3E~%2822%29',
  ),
  'url-go': written(
    '?k=stag%2Fing%2Bc%22n%27ry%261%21%3D%3D',
    '?k=prod%2Fuct%3Fion+c%22n%3Cry%3E~%2822%29',
  ),
  form: (key) => new URLSearchParams({ key }).toString(),
  'html-text': html(`stag/ing+c"n'ry&amp;1!==`, 'prod/uct?ion c"n&lt;ry&gt;~(22)'),
  'html-php': html('stag/ing+c&quot;n&#039;ry&amp;1!==', 'prod/uct?ion c&quot;n&lt;ry&gt;~(22)'),
  'html-python': html('stag/ing+c&quot;n&#x27;ry&amp;1!==', 'prod/uct?ion c&quot;n&lt;ry&gt;~(22)'),
  'html-go': html('stag/ing&#43;c&#34;n&#39;ry&amp;1!==', 'prod/uct?ion c&#34;n&lt;ry&gt;~(22)'),
  'html-json': html(
    String.raw`stag/ing+c\&quot;n&#39;ry&amp;1!==`,
    String.raw`prod/uct?ion c\&quot;n&lt;ry&gt;~(22)`,
  ),
  hex: (key) => `0x${Buffer.from(key).toString('hex')}.`,
  'hex-upper': (key) => `0x${Buffer.from(key).toString('hex').toUpperCase()}.`,
  base64: (key) => Buffer.from(`${key}::`).toString('base64'),
  'base64-1': (key) => Buffer.from(`a${key}::`).toString('base64'),
  'base64-2': (key) => Buffer.from(`ab${key}::`).toString('base64'),
  base64url: (key) => Buffer.from(`${key}??>`).toString('base64url'),
  'base64url-2': (key) => Buffer.from(`~~${key}??>`).toString('base64url'),
};

verifies(
  'vault.canary-encoded',
  'the forms that servers echo a value in come back as stars',
  async () => {
    upstream.answer = (request, reply) => {
      const form = FORMS[(request.url ?? '').slice(1)];
      if (form !== undefined) say(reply, form(keyOf(request)));
      else say(reply, `got: ${request.headers.authorization}`);
    };
    const urls = Object.keys(FORMS).map((path) => `https://api.example/${path}`);
    const script = `curl -sS --max-time 10 -w '\\n' ${urls.map((url) => `'${url}'`).join(' ')}`;
    for (const [agent, { key }] of each) {
      const { results } = await place.attempt(['--agent', agent], [['shell', script]], { env });
      const heard = String(results[0]?.value.out).split('\n');
      for (const [i, [name, form]] of Object.entries(FORMS).entries()) {
        const sent = form(key);
        expect(said).toContain(sent);
        const line = heard[i] as string;
        // Of the length that was sent, with stars where the value was; of base64 at an offset the
        // characters at its ends are shared with its neighbours.
        expect(line, name).toHaveLength(sent.length);
        expect(line.match(/\*+/g), name).toHaveLength(1);
        const left = sent.length - (/\*+/.exec(line)?.[0].length ?? 0);
        expect(left, `${name}: ${line}`).toBeLessThanOrEqual(11);
      }
    }
    const { one, two } = await got('basic', '');
    expect(said).toContain(`got: Basic ${Buffer.from(`bot:${env.PASSWORD}`).toString('base64')}`);
    expect(one).toMatch(/^got: Basic Ym90On?\*{14,15}[\w=]{0,2}$/);
    expect(two).toBe('got: undefined');
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.canary-split',
  'a value in any two parts, byte by byte, and at the edges of large chunks comes back as stars',
  async () => {
    upstream.answer = (request, reply) => {
      const key = keyOf(request);
      void (async () => {
        if (request.url === '/bytes') {
          for (const byte of `<${key}>${key}`) {
            reply.write(byte);
            await sleep(5);
          }
        } else if (request.url === '/large') {
          const at = 65_536 - 5;
          reply.write(`${'x'.repeat(at)}${key}`.repeat(20));
        } else {
          for (let cut = 1; cut < key.length; cut++) {
            reply.write(`<${key.slice(0, cut)}`);
            await sleep(3);
            reply.write(`${key.slice(cut)}>\n`);
            await sleep(3);
          }
        }
        said.push(key);
        // The beginning of a value, at the very end.
        reply.end(key.slice(0, 5));
      })();
    };
    const bytes = await got('bytes', '');
    const cuts = await got('cuts', '');
    const large = await got('large', '', "| tr -d x | tr -s '*'");
    for (const [agent, { key }] of each) {
      const hidden = stars(key);
      expect(bytes[agent]).toBe(`<${hidden}>${hidden}${key.slice(0, 5)}`);
      expect(cuts[agent].split('\n')).toEqual([
        ...Array.from({ length: key.length - 1 }, () => `<${hidden}>`),
        key.slice(0, 5),
      ]);
      expect(large[agent]).toBe(`*${key.slice(0, 5)}`);
    }
    expect(said).toHaveLength(6);

    // What cannot be part of a value goes on at once: each event waits for the one before to arrive.
    let heard = 0;
    const arrived = new Map<string, () => void>();
    upstream.answer = (request, reply) => {
      const [path, id = ''] = (request.url ?? '').split('?n=');
      if (path === '/ack') {
        arrived.get(id)?.();
        return void reply.end();
      }
      reply.writeHead(200, { 'content-type': 'text/event-stream' });
      void (async () => {
        for (let n = 1; n <= 5; n++) {
          const next = new Promise<void>((resolve) => arrived.set(`${n}`, resolve));
          reply.write(`data: ${n}\n\n`);
          await next;
          heard += 1;
        }
        reply.end();
      })();
    };
    const { results } = await place.attempt(
      ['--agent', 'one'],
      [['events', 'https://api.example/events', 'https://api.example/ack']],
      { env },
    );
    expect(results[0]?.error).toBeUndefined();
    expect(heard).toBe(5);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.canary-overlap',
  'of two values of which one begins with the other, neither leaves a part of itself',
  async () => {
    upstream.answer = (request, reply) => {
      const { 'x-client': client, 'x-pair': pair } = request.headers;
      const text = `${client}, ${pair}; ${client}:other`;
      said.push(text);
      reply.setHeader('x-echo', `${pair}`);
      const cut = Number(request.url?.split('/').at(-1));
      reply.write(text.slice(0, cut));
      setTimeout(() => reply.end(text.slice(cut)), 20);
    };
    const client = stars(env.CLIENT);
    const pair = stars(env.PAIR);
    for (const cut of [0, env.CLIENT.length * 2 + 2, 30]) {
      const { one } = await got(`pair/${cut}`);
      expect(said).toContain(`${env.CLIENT}, ${env.PAIR}; ${env.CLIENT}:other`);
      expect(one).toContain(`x-echo: ${pair}`);
      expect(one.endsWith(`${client}, ${pair}; ${client}:other`), one).toBe(true);
    }
  },
  { timeoutMs: 60_000 },
);

const CODINGS: Readonly<Record<string, (text: string) => Buffer>> = {
  gzip: gzipSync,
  'x-gzip': gzipSync,
  deflate: deflateSync,
  br: brotliCompressSync,
  zstd: zstdCompressSync,
};

verifies(
  'vault.canary-compressed',
  'no coding and no part is asked for; an answer that is coded all the same is decoded or refused',
  async () => {
    upstream.answer = (request, reply) => {
      const coding = (request.url ?? '').slice(1);
      const text = `<${keyOf(request)}>${'-'.repeat(2_000)}`;
      said.push(text);
      const bytes = CODINGS[coding]?.(text) ?? Buffer.from(text);
      reply.setHeader('content-encoding', coding === 'two' ? ['gzip', 'gzip'] : coding);
      reply.setHeader('content-length', bytes.length);
      reply.write(bytes.subarray(0, 7));
      setTimeout(() => reply.end(bytes.subarray(7)), 20);
    };
    for (const coding of Object.keys(CODINGS)) {
      const heard = await got(coding, `-i -r 0-99 -H 'Accept-Encoding: ${coding}'`);
      for (const [agent, { key }] of each) {
        expect(heard[agent]).toMatch(/^HTTP\/1\.1 200 OK\r?\n/);
        expect(heard[agent]).not.toMatch(/content-(?:encoding|length)/i);
        expect(heard[agent].endsWith(`<${stars(key)}>${'-'.repeat(2_000)}`)).toBe(true);
        expect(said).toContain(`<${key}>${'-'.repeat(2_000)}`);
      }
    }
    for (const { headers } of upstream.arrivals) {
      expect(headers['accept-encoding']).toBe('identity');
      expect(headers.range).toBeUndefined();
    }
    for (const coding of ['compress', 'gzip, gzip', 'two']) {
      const heard = await got(encodeURI(coding).replace('%20', '+'), '-i');
      for (const [agent] of each) {
        expect(heard[agent]).toMatch(/^HTTP\/1\.1 502[\s\S]*x-belay-denied: answer\.unreadable/);
      }
    }
    const plain = await got('identity', '');
    for (const [agent, { key }] of each) expect(plain[agent]).toContain(`<${stars(key)}>--`);
    // A head alone is as it was.
    const heads = await got('gzip', '-I');
    for (const [agent] of each) expect(heads[agent]).toMatch(/content-encoding: gzip/i);

    // Where no credential is bound, nothing is asked for in another way, or decoded.
    upstream.answer = (_request, reply) => {
      reply.setHeader('content-encoding', 'gzip');
      reply.end(gzipSync('honest'));
    };
    upstream.arrivals.length = 0;
    const other = await got('other.example/x', "-H 'Accept-Encoding: gzip, br'", '| base64');
    expect(gunzipSync(Buffer.from(other.one, 'base64')).toString()).toBe('honest');
    expect(upstream.arrivals[0]?.headers['accept-encoding']).toBe('gzip, br');
  },
  { timeoutMs: 60_000 },
);

verifies(
  'vault.canary-records',
  'no value is in the ledger, in what commands print, in a file of the installation or in a process',
  async () => {
    upstream.answer = (request, reply) => {
      // Refused as a response of no protocol, with the value in what is refused.
      if (request.url === '/torn') request.socket.end(`HTTP/1.1 ${keyOf(request)}\r\n\r\n`);
      else say(reply, keyOf(request));
    };
    await got('records');
    const run = (await place.entries()).at(-1)?.run ?? '';
    const torn = await got('torn', '-i');
    const watched = Object.values(env).flatMap((value) => [
      value,
      JSON.stringify(value).slice(1, -1),
      Buffer.from(value).toString('base64').slice(0, -4),
    ]);
    const clean = (text: string, where: string): void => {
      for (const value of watched) expect(text.includes(value), where).toBe(false);
    };
    for (const [agent] of each) clean(torn[agent], `what ${agent} heard`);
    for (const command of [
      ['log'],
      ['log', 'export'],
      ['status', '--json'],
      ['verify'],
      ['show', run],
    ]) {
      const { stdout, stderr } = await place.session.belay(command);
      clean(stdout + stderr, command.join(' '));
    }
    const files = globSync('**/*', { cwd: place.session.home }).filter((path) =>
      statSync(join(place.session.home, path), { throwIfNoEntry: false })?.isFile(),
    );
    expect(files.length).toBeGreaterThan(5);
    for (const path of files) clean(readFileSync(join(place.session.home, path), 'latin1'), path);
    const { pid } = await place.status();
    for (const file of ['cmdline', 'environ', 'comm']) {
      clean(readFileSync(`/proc/${pid}/${file}`, 'latin1'), file);
    }
    const broken = (await place.entries()).filter(
      (entry) => entry.type === 'outcome' && entry.error?.code === 'upstream.broken',
    );
    expect(broken).toHaveLength(2);
  },
  { timeoutMs: 60_000 },
);
