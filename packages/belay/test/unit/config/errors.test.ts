import { expect } from 'vitest';
import { configProblems, parseConfig } from '../../../src/config/parse.ts';
import { BelayError } from '../../../src/core/errors.ts';
import { verifies } from '../../verifies.ts';

const GOOD = `{
  // who runs here
  "version": 1,
  "agents": { "claude": { "environment": "dev" } },
  "environments": { "dev": {} },
  "grants": [
    {
      "agent": "claude",
      "environment": "dev",
      "allow": ["npm-read", "example.com:8443"],
      "expires": "2027-01-01T00:00:00Z",
      "mode": "live",
      "caps": { "calls": 10, "bytes": "100MB" },
    },
  ],
  "credentials": {
    "anthropic": {
      "from": "env:ANTHROPIC_API_KEY",
      "environment": "dev",
      "host": "api.anthropic.com",
      "methods": ["POST"],
      "paths": ["/v1/**"],
      "header": "x-api-key",
      "variable": "ANTHROPIC_API_KEY"
    }
  },
  "upstreams": {
    "api.github.com": { "address": "127.0.0.1:4001", "tls": { "ca": "./ca.pem" } }
  }
}
`;

interface Row {
  readonly from: string;
  readonly to: string;
  readonly at: string;
  readonly says: RegExp;
  readonly hint?: RegExp;
}

const ROWS: readonly Row[] = [
  { from: '"agents"', to: '"agnets"', at: '4:3', says: /unknown key `agnets`/, hint: /`agents`/ },
  {
    from: '"expires"',
    to: '"expire"',
    at: '11:7',
    says: /unknown key `expire`/,
    hint: /`expires`/,
  },
  { from: '"ca"', to: '"cs"', at: '28:63', says: /unknown key `cs`/, hint: /`ca`/ },
  { from: '"calls"', to: '"cals"', at: '13:17', says: /unknown key `cals`/, hint: /`calls`/ },
  {
    from: '"environments": { "dev": {} }',
    to: '"environments": []',
    at: '5:19',
    says: /must be an object/,
  },
  {
    from: '"agent": "claude"',
    to: '"agent": "cluade"',
    at: '8:16',
    says: /unknown agent `cluade`/,
    hint: /`claude`/,
  },
  {
    from: '{ "environment": "dev" }',
    to: '{ "environment": "prod" }',
    at: '4:42',
    says: /unknown environment `prod`/,
    hint: /declare it/,
  },
  {
    from: '"npm-read"',
    to: '"npm-reed"',
    at: '10:17',
    says: /neither a host nor a preset/,
    hint: /`npm-read`/,
  },
  {
    from: '"npm-read"',
    to: '"model:antropic"',
    at: '10:17',
    says: /neither/,
    hint: /`model:anthropic`/,
  },
  {
    from: '"npm-read"',
    to: '"https://api.github.com/x"',
    at: '10:17',
    says: /is a URL/,
    hint: /`api.github.com`/,
  },
  { from: '"npm-read"', to: '"*.github.com"', at: '10:17', says: /is a pattern/, hint: /Cedar/ },
  {
    from: '"npm-read"',
    to: '"tls://[2001:db8::1]"',
    at: '10:17',
    says: /is an address/,
    hint: /`tcp:\/\/\[2001:db8::1\]:443`/,
  },
  { from: '"npm-read"', to: '"0x7f.1"', at: '10:17', says: /refused/ },
  { from: '"npm-read"', to: '"example.com:8443"', at: '10:37', says: /allowed twice/ },
  { from: 'com:8443', to: 'com:84430', at: '10:29', says: /port outside/ },
  { from: '"live"', to: '"shdow"', at: '12:15', says: /must be `live` or `shadow`/ },
  {
    from: '2027-01-01T',
    to: '2027-02-30T',
    at: '11:18',
    says: /not a date/,
    hint: /2027-01-01T00:00:00Z/,
  },
  { from: '"calls": 10', to: '"calls": -1', at: '13:26', says: /at least 0/ },
  { from: '"100MB"', to: '"100 potatoes"', at: '13:39', says: /is not a size/, hint: /`100MB`/ },
  { from: '"calls": 10', to: '"calls": 1.5', at: '13:26', says: /whole number/ },
  {
    from: 'env:ANTHROPIC',
    to: 'sk-ant',
    at: '18:15',
    says: /must be `env:NAME`/,
    hint: /never write it/,
  },
  {
    from: '"api.anthropic.com"',
    to: '"https://api.anthropic.com"',
    at: '20:15',
    says: /refused/,
    hint: /`api.anthropic.com`/,
  },
  { from: '"POST"', to: '"post"', at: '21:19', says: /`post` is not a method/, hint: /`POST`/ },
  { from: '"/v1/**"', to: '"v1/**"', at: '22:17', says: /starts with `\/`/ },
  {
    from: '      "header": "x-api-key",\n',
    to: '',
    at: '17:18',
    says: /has one place/,
    hint: /`query`/,
  },
  {
    from: '"header": "x-api-key"',
    to: '"field": "api key"',
    at: '23:16',
    says: /`api key` is not a plain key/,
  },
  {
    from: '"header": "x-api-key"',
    to: '"header": "x-api-key", "mints": { "hosts": ["https://api.example"] }',
    at: '23:51',
    says: /refused/,
    hint: /`api\.example`/,
  },
  {
    from: '"header": "x-api-key"',
    to: '"header": "x-api-key", "body": { "if": {} }',
    at: '23:38',
    says: /no schema that can be checked/,
  },
  {
    from: '"api.anthropic.com"',
    to: '"api.anthropic.com:0"',
    at: '20:15',
    says: /has a port outside 1 to/,
  },
  { from: '"x-api-key"', to: '"Content-Length"', at: '23:17', says: /cannot hold a credential/ },
  {
    from: '127.0.0.1:4001',
    to: 'localhost:4001',
    at: '28:36',
    says: /not an address/,
    hint: /127\.0\.0\.1/,
  },
  {
    from: '{ "ca": "./ca.pem" }',
    to: '{ "ca": "./ca.pem" }, "scheme": "http"',
    at: '28:61',
    says: /no meaning/,
  },
  { from: '"version": 1', to: '"version": 2', at: '3:14', says: /version 2 is newer/ },
  { from: '  "version": 1,\n', to: '', at: '1:1', says: /`version` is missing/ },
  { from: '"version": 1,', to: '"version": 1, "version": 1,', at: '3:17', says: /occurs twice/ },
  { from: '"dev": {} }', to: '"dev": {}, "__proto__": {} }', at: '5:32', says: /__proto__/ },
  { from: '"dev": {} }', to: '"d ev": {} }', at: '5:21', says: /is not a name/ },
  { from: '"version": 1,', to: '"version": 1', at: '4:3', says: /comma/ },
  { from: '"version"', to: 'version', at: '3:3', says: /./ },
];

for (const { from, to, at, says, hint } of ROWS) {
  verifies('config.errors', `\`${to || `no ${from.trim()}`}\` is refused at ${at}`, () => {
    expect(GOOD).toContain(from);
    const error = refusal(() => parseConfig(GOOD.replace(from, () => to)));
    expect(error.code).toBe('ERR_CONFIG');
    expect(error.message).toMatch(new RegExp(`^belay\\.jsonc:${at}: `));
    expect(error.message).toMatch(says);
    if (hint !== undefined) expect(error.hint).toMatch(hint);
  });
}

verifies('config.errors', 'the file that the table breaks is right as it stands', () => {
  expect(configProblems(GOOD)).toEqual([]);
});

verifies('config.errors', 'a second grant for one agent in one environment is refused', () => {
  const grant = '{ "agent": "claude", "environment": "dev" }';
  const text = `{ "version": 1, "agents": { "claude": { "environment": "dev" } },
  "environments": { "dev": {} }, "grants": [${grant},
    ${grant}] }`;
  expect(refusal(() => parseConfig(text)).message).toMatch(/^belay\.jsonc:3:5: a second grant/);
});

verifies('config.errors', 'what may be a secret is never repeated in a message', () => {
  const secret = 'sk-ant-0123456789';
  const text = GOOD.replace('env:ANTHROPIC_API_KEY', secret);
  const error = refusal(() => parseConfig(text));
  expect(`${error.message} ${error.hint}`).not.toContain(secret);
});

verifies('config.errors', 'all problems are counted and the first one is shown', () => {
  const text = GOOD.replace('"POST"', '"post"').replace('"npm-read"', '"npm-reed"');
  expect(configProblems(text)).toHaveLength(2);
  expect(refusal(() => parseConfig(text)).message).toMatch(
    /^belay\.jsonc:10:17: .* \(and 1 more\)$/,
  );
});

verifies('config.errors', 'nesting without end is refused, and quickly', () => {
  for (const text of ['['.repeat(500_000), '"\\'.repeat(300_000), '/*'.repeat(300_000)]) {
    const startedAt = performance.now();
    expect(refusal(() => parseConfig(text)).code).toBe('ERR_CONFIG');
    expect(performance.now() - startedAt).toBeLessThan(3000);
  }
});

function refusal(body: () => unknown): BelayError {
  try {
    body();
  } catch (error) {
    if (error instanceof BelayError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}
