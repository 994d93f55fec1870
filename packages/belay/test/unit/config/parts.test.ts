import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect } from 'vitest';
import { parseAllow } from '../../../src/config/allow.ts';
import { parseBundle } from '../../../src/config/bundle.ts';
import { pathMatcher } from '../../../src/config/glob.ts';
import { loadBundle } from '../../../src/config/load.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import { namedPaths } from '../../../src/config/paths.ts';
import { PRESETS } from '../../../src/config/presets.ts';
import { configSchemaJson } from '../../../src/config/schema.ts';
import { readSecrets } from '../../../src/config/secrets.ts';
import { selectGrant } from '../../../src/config/select.ts';
import { parseSize } from '../../../src/config/size.ts';
import { verifies } from '../../verifies.ts';

let directory = '';
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), 'belay-config-')));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);

const PEM = '-----BEGIN CERTIFICATE-----\nTUlJQg==\n-----END CERTIFICATE-----\n';
const KEY = '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n';
const WITH_CA = `{ "version": 1, "agents": { "a": { "environment": "e" } }, "environments": { "e": {} },
  "credentials": { "k": { "from": "env:KEY", "environment": "e", "host": "x.example",
    "methods": ["GET"], "paths": ["/**"], "header": "authorization", "format": "Bearer {}" },
    "f": { "from": "file:key.txt", "environment": "e", "host": "x.example",
    "methods": ["GET"], "paths": ["/**"], "header": "x-key" } },
  "upstreams": { "x.example": { "address": "[::1]:4001", "tls": { "ca": "ca.pem" } } } }`;

verifies(
  'config.errors',
  'a bundle holds all that the daemon needs, and no key beside a certificate',
  () => {
    write('belay.jsonc', WITH_CA);
    write('ca.pem', KEY + PEM);
    mkdirSync(join(directory, 'policies'));
    writeFileSync(join(directory, 'policies', 'b.cedar'), 'permit (principal, action, resource);');
    const bundle = loadBundle(directory);
    const config = parseBundle(JSON.parse(JSON.stringify(bundle)));
    expect(config.policies.map(({ file }) => file)).toEqual(['policies/b.cedar']);
    const [upstream] = config.upstreams.values();
    expect(upstream).toMatchObject({ address: '::1', port: 4001, scheme: 'https', authority: PEM });
    expect(JSON.stringify(bundle)).not.toContain('PRIVATE KEY');
    expect(config.digest).toBe(bundle.digest);
  },
);

verifies(
  'vault.injected',
  'a credential is bound to port 443, or to the one that its host names',
  () => {
    const hosts = { 'x.example': 443, 'x.example:8443': 8443, '[2606:4700::1]:8443': 8443 };
    for (const [host, port] of Object.entries(hosts)) {
      const { credentials } = parseConfig(
        WITH_CA.replaceAll('"host": "x.example"', `"host": "${host}"`),
        'f',
      );
      expect(credentials.map((credential) => credential.port)).toEqual([port, port]);
      expect(credentials[0]?.host).toBe(host.replace(/:8443$/, '').replace(/[[\]]/g, ''));
    }
  },
);

verifies('config.errors', 'a bundle whose content was changed is refused', () => {
  const bundle = loadBundle(directory);
  expect(parseBundle(bundle).grants).toEqual([]);
  const policies = [{ file: 'policies/x.cedar', text: 'permit (principal, action, resource);' }];
  expect(() => parseBundle({ ...bundle, policies })).toThrow(/digest/);
  expect(() => parseBundle({ ...bundle, extra: 1 })).toThrow(/bundle/);
  expect(() => parseBundle(null)).toThrow(/bundle/);
});

verifies(
  'config.errors',
  'a file that is named and missing, or is not text, is one clear message',
  () => {
    write('belay.jsonc', WITH_CA);
    expect(() => loadBundle(directory)).toThrow('the authority `ca.pem` does not exist');
    write('ca.pem', KEY);
    expect(() => loadBundle(directory)).toThrow('`ca.pem` holds no certificate in PEM');
    write('belay.jsonc', '{ "version": 1, "policies": "rules" }');
    expect(() => loadBundle(directory)).toThrow('`rules` cannot be read: it does not exist');
    writeFileSync(join(directory, 'belay.jsonc'), new Uint8Array([0xff, 0xfe]));
    expect(() => loadBundle(directory)).toThrow('`belay.jsonc` is not UTF-8');
  },
);

verifies('config.errors', 'global caps in a workspace are refused, at home they hold', () => {
  const text = '{ "version": 1,\n  "caps": { "bytes": "1KiB" } }';
  write('belay.jsonc', text);
  expect(() => parseBundle(loadBundle(directory))).toThrow(/^belay\.jsonc:2:3: global caps/);
  expect(parseConfig(text).caps).toEqual({ bytes: 1024 });
  // Of a run only: there is nothing that all runs together could be stopped for.
  expect(() => parseConfig('{ "version": 1, "caps": { "denials": 5 } }')).toThrow(/`denials`/);
});

verifies(
  'config.secret-unreadable',
  'a secret that cannot be read names the reference, not a value',
  () => {
    write('belay.jsonc', WITH_CA);
    write('ca.pem', PEM);
    const bundle = loadBundle(directory);
    const read = (env: Record<string, string>) => readSecrets(bundle, env, {}, directory);
    expect(() => read({})).toThrow(
      expect.objectContaining({
        code: 'ERR_SECRET',
        message: 'belay.jsonc:2:25: credential `k`: the variable `KEY` is not set',
      }),
    );
    expect(() => read({ KEY: 'v1' })).toThrow(/`key.txt` cannot be read: it does not exist/);
    write('key.txt', '\n');
    expect(() => read({ KEY: 'v1' })).toThrow(/credential `f`: the secret is empty/);
    write('key.txt', 'v2\r\nx-evil: 1\n');
    expect(() => read({ KEY: 'v1' })).toThrow(/cannot hold$/);
    write('key.txt', 'v2\n');
    expect(read({ KEY: 'v1' })).toEqual({ k: 'v1', f: 'v2' });
  },
);

verifies(
  'fsr.secret-file',
  'no link in the workspace is followed to a secret, and a link outside leads to what it names',
  () => {
    write('belay.jsonc', WITH_CA.replace('file:key.txt', 'file:keys/key.txt'));
    write('ca.pem', PEM);
    const bundle = loadBundle(directory);
    const read = (): unknown => readSecrets(bundle, { KEY: 'v1' }, {}, directory);
    mkdirSync(join(directory, 'keys'));
    write('keys/key.txt', 'v2\n');
    expect(read()).toEqual({ k: 'v1', f: 'v2' });
    write('other.txt', 'v3\n');
    rmSync(join(directory, 'keys/key.txt'));
    symlinkSync('../other.txt', join(directory, 'keys/key.txt'));
    expect(read).toThrow(/`keys\/key.txt` cannot be read: a symbolic link leads there$/);
    rmSync(join(directory, 'keys'), { recursive: true });
    mkdirSync(join(directory, 'moved'));
    write('moved/key.txt', 'v4\n');
    symlinkSync('moved', join(directory, 'keys'));
    expect(read).toThrow(/a symbolic link leads there$/);

    const outside = join(directory, 'moved');
    const from = `file:${join(directory, 'link/key.txt')}`;
    symlinkSync('moved', join(directory, 'link'));
    mkdirSync(join(directory, 'work'));
    write('work/belay.jsonc', WITH_CA.replace('file:key.txt', from));
    write('work/ca.pem', PEM);
    const other = loadBundle(join(directory, 'work'));
    const values = readSecrets(other, { KEY: 'v1' }, {}, join(directory, 'work'));
    expect(values).toEqual({ k: 'v1', f: 'v4' });
    expect(namedPaths(other, outside, {}).hide).toEqual(['key.txt']);
  },
);

verifies('config.errors', 'an agent or environment that is not declared is not found', () => {
  const config = parseBundle(loadBundle(directory));
  expect(selectGrant(config)).toEqual({ agent: 'agent', environment: 'local' });
  const unknown = (asked: object) => () => selectGrant(config, asked);
  expect(unknown({ agent: 'agnet' })).toThrow(
    expect.objectContaining({ code: 'ERR_NOT_FOUND', hint: 'did you mean `agent`?' }),
  );
  expect(unknown({ environment: 'prod' })).toThrow(/unknown environment `prod`/);
});

verifies('config.errors', 'sizes are what they say, and nothing else is a size', () => {
  expect(['4096', '100MB', '1GiB', '1.5 KiB', '0', '7b'].map(parseSize)).toEqual([
    4096,
    100_000_000,
    2 ** 30,
    1536,
    0,
    7,
  ]);
  for (const text of ['', '-1', '1e9', '1 XB', 'MB', '99999999999TB', '0x10', '1,5MB']) {
    expect(parseSize(text), text).toBeUndefined();
  }
});

verifies('policy.allow', 'an entry is a preset or exactly one host', () => {
  const hostOf = (text: string) => {
    const entry = parseAllow(text, 'here');
    return entry.kind === 'host' ? `${entry.host} ${entry.ports.join()}` : entry.kind;
  };
  expect(hostOf('API.GitHub.com')).toBe('api.github.com 443,80');
  expect(hostOf('example.com:8443')).toBe('example.com 8443');
  expect(hostOf('registry:443')).toBe('registry 443');
  expect(hostOf('[::1]:80')).toBe('::1 80');
  expect(hostOf('git.example')).toBe('git.example 443,80');
  expect(hostOf('git.example:8443')).toBe('git.example 8443');
  expect(hostOf('npm-read')).toBe('preset');
  for (const text of [
    '',
    '*',
    'localhost',
    'a b.c',
    'x.com/y',
    'x.com:',
    'x.com:0',
    '127.1',
    'x.com.',
  ]) {
    expect(hostOf(text), text).toBe('fault');
  }
});

/** The reference: the same meaning as a regular expression, where no time bound matters. */
function asRegExp(pattern: string): RegExp {
  const source = pattern
    .split(/(\*+)/)
    .map((part) => {
      if (part === '**') return '[\\s\\S]*';
      return part === '*' ? '[^/]*' : part.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
    })
    .join('');
  return new RegExp(`^${source}$`);
}

verifies('policy.allow', 'path patterns mean what glob.ts says', () => {
  const texts = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.'), maxLength: 10 });
  const parts = fc.array(fc.constantFrom('a', 'b', '/', '.', '*', '**', 'ab'), { maxLength: 7 });
  const pattern = parts.map((list) => `/${list.join('')}`).filter((text) => !text.includes('***'));
  fc.assert(
    fc.property(pattern, texts, (glob, text) => {
      expect(pathMatcher(glob)(`/${text}`)).toBe(asRegExp(glob).test(`/${text}`));
    }),
    { numRuns: 3000 },
  );
});

verifies('policy.allow', 'a hostile path cannot make matching slow', () => {
  const startedAt = performance.now();
  expect(pathMatcher(`/${'*a'.repeat(40)}b`)(`/${'a'.repeat(16_000)}`)).toBe(false);
  expect(performance.now() - startedAt).toBeLessThan(500);
});

verifies('policy.allow', 'presets read only, and one pushes to the branches of agents', () => {
  const writes: string[] = [];
  for (const preset of PRESETS) {
    for (const { effect, methods, paths, model, host, refs } of preset.routes) {
      if (effect !== 'read') {
        writes.push(`${preset.name} ${methods} ${host} ${paths} ${refs ?? ''}`);
        continue;
      }
      expect(refs).toBeUndefined();
      if (model !== undefined || !methods.some((method) => method !== 'GET' && method !== 'HEAD'))
        continue;
      expect(methods.every((method) => ['GET', 'POST'].includes(method))).toBe(true);
      expect(paths.every((path) => /git-upload-pack$|^\/api\/eval\/sdk-\*$/.test(path))).toBe(true);
    }
  }
  expect(writes).toEqual([
    'github-write-branch POST github.com /*/*/git-receive-pack refs/heads/agent/*',
    'github-write-branch POST api.github.com /repos/*/*/pulls ',
  ]);
});

verifies('policy.allow', 'a push entry names one host, one repository and its refs', () => {
  const textOf = (text: string) => {
    const entry = parseAllow(text, 'here');
    return entry.kind === 'push' ? entry.text : entry.kind;
  };
  expect(textOf('git.push:Example.com/team/app.git#main')).toBe(
    'git.push:example.com/team/app#main',
  );
  const same = [
    'git.force-push:example.com/team/app#agent/*',
    'git.delete-ref:example.com:8443/app#refs/tags/v1.*',
    'git.push:[::1]/app#x',
    'git.push:example.com/org/My%20Project/_git/app#x',
  ];
  for (const text of same) expect(textOf(text)).toBe(text);
  expect(textOf('git.push:https://example.com:443/a#refs/heads/x')).toBe(
    'git.push:example.com/a#x',
  );
  for (const text of [
    ...['git.push:', 'git.push:example.com/a', 'git.push:example.com#x', 'git.fetch:a.b/c#x'],
    ...[
      'git.push:example.com/a#',
      'git.push:example.com/a#b..c',
      'git.push:example.com/a#/x',
      'git.push:*/a#x',
    ],
    ...['git.push:example.com/*#x', 'git.push:example.com:0/a#x', 'git.push:u@example.com/a#x'],
    ...['git.push:example.com/a#x y', 'git.push:example.com/a#x?', 'git.push:example.com/../a#x'],
    // Names that no push has: a server may find one repository under several.
    ...['git.push:example.com/a/.git#x', 'git.push:example.com/a.git.git#x'],
    ...['git.push:example.com/a;b#x', 'git.push:example.com/a%41b#x', 'git.push:example.com/a/#x'],
  ]) {
    expect(textOf(text), text).toBe('fault');
  }
});

verifies('config.errors', 'the JSON Schema for editors knows every key and refuses others', () => {
  const schema = configSchemaJson() as { additionalProperties: boolean; properties: object };
  expect(schema.additionalProperties).toBe(false);
  expect(Object.keys(schema.properties)).toEqual(
    expect.arrayContaining([
      'version',
      'agents',
      'environments',
      'grants',
      'credentials',
      'upstreams',
    ]),
  );
});
