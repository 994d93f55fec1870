import { expect } from 'vitest';
import { checkDoors, findingsIn } from '../../../../../scripts/check-doors.ts';
import { verifies } from '../../verifies.ts';
import { lint, plant } from './planted.ts';

const reasons = (file: string, code: string): readonly string[] =>
  findingsIn(file, `${code}\n`).map(({ reason }) => reason);

const DOORS: readonly (readonly [module: string, name: string])[] = [
  ['node:net', 'connect'],
  ['node:net', 'createConnection'],
  ['node:net', 'Socket'],
  ['node:tls', 'connect'],
  ['node:http', 'request'],
  ['node:http', 'get'],
  ['node:http', 'Agent'],
  ['node:https', 'request'],
  ['node:http2', 'connect'],
  ['node:dgram', 'createSocket'],
  ['node:dns', 'lookup'],
  ['node:dns/promises', 'resolve4'],
  ['undici', 'fetch'],
  ['undici', 'Client'],
  ['undici/lib/api', 'request'],
];
const OUTSIDE = [
  'core',
  'config',
  'ledger',
  'policy',
  'vault',
  'monitor',
  'sandbox',
  'control',
  'cli',
];

verifies(
  'repo.one-door',
  'each module that can connect is refused in each folder but upstream/',
  () => {
    for (const [module, name] of DOORS) {
      const code = `import { ${name} } from '${module}';`;
      for (const folder of [...OUTSIDE, 'gateway', 'gateway/http']) {
        expect(reasons(`${folder}/planted.ts`, code), `${folder} ${code}`).toHaveLength(1);
      }
      expect(reasons('upstream/planted.ts', code)).toEqual([]);
    }
  },
);

verifies('repo.one-door', 'each way to name such a module is seen', () => {
  for (const code of [
    "import net from 'node:net';",
    "import * as net from 'node:net';",
    "import net, { createServer } from 'node:net';",
    "import 'node:net';",
    "import { createServer, connect as listen } from 'node:net';",
    "export { connect } from 'node:net';",
    "export * from 'node:net';",
    "const net = await import('node:net');",
    'const net = await import(`node:net`);',
    "const net = await import(['node', 'net'].join(':'));",
    "const net = require('node:net');",
    "const net = process.getBuiltinModule('node:net');",
    "import { createRequire } from 'node:module';",
    "const net = process.binding('tcp_wrap');",
    "import { connect } from 'net';",
    "const net = await import('http');",
    "// it's quoted\nimport { connect } from 'node:tls';",
    "/* a */ import { connect } /* b */ from 'node:tls';",
  ]) {
    expect(reasons('gateway/planted.ts', code), code).not.toEqual([]);
  }
});

verifies('repo.one-door', 'a server, a type and a word in a comment pass', () => {
  for (const [file, code] of [
    ['gateway/listen/a.ts', "import { createServer, type Socket } from 'node:net';"],
    ['gateway/listen/a.ts', "import { createSecureContext, TLSSocket } from 'node:tls';"],
    ['gateway/http/a.ts', "import { createServer } from 'node:http';"],
    ['monitor/a.ts', "import type { Socket } from 'node:net';"],
    ['monitor/a.ts', "// like connect of 'node:net'\nexport const scheme = 'https';"],
    ['config/a.ts', "import { isIP } from 'node:net';"],
    [
      'control/client.ts',
      "import { request as ask } from 'node:http';\nask({ socketPath: '/s' });",
    ],
    ['sandbox/guard.ts', "import { connect, createServer } from 'node:net';"],
    ['cli/a.ts', "const b = await import('./b.ts');"],
  ] as const) {
    expect(reasons(file, code), code).toEqual([]);
  }
});

verifies('repo.one-door', 'a client between our own processes opens unix sockets only', () => {
  const net = "import { connect } from 'node:net';\n";
  const http = "import { request as ask } from 'node:http';\n";
  for (const code of [
    `${net}connect({ path: GATEWAY, allowHalfOpen: true });`,
    `${net}connect(path, () => {});`,
    `${net}const header = { port: 80 };`,
  ]) {
    expect(reasons('sandbox/bridge.ts', code), code).toEqual([]);
  }
  expect(reasons('control/client.ts', `${http}ask({ socketPath, path: '/v1' });`)).toEqual([]);
  expect(reasons('control/server.ts', `${http}ask({ socketPath });`)).toHaveLength(1);
  for (const code of [
    `${net}connect(443, 'example.com');`,
    `${net}connect({ port: 443 });`,
    `${net}connect({ ...target });`,
    `${net}export const dial = connect;`,
    `${net}tools.dial(connect);`,
  ]) {
    expect(reasons('sandbox/bridge.ts', code), code).toHaveLength(1);
  }
  for (const code of [`${http}ask('http://example.com');`, `${http}ask({ host, port });`]) {
    expect(reasons('control/client.ts', code), code).toHaveLength(1);
  }
});

verifies(
  'repo.one-door',
  'a comment that silences the rules is refused, upstream/ included',
  () => {
    for (const rule of [
      'lint/style/noRestrictedImports: x',
      'lint/style/noRestrictedGlobals: x',
      'lint/suspicious/noImportCycles: x',
      'lint/style: x',
      'lint: x',
    ]) {
      expect(reasons('upstream/a.ts', `// biome-ignore ${rule}`), rule).toHaveLength(1);
      expect(reasons('core/a.ts', `// biome-ignore-all ${rule}`), rule).toHaveLength(1);
    }
    expect(reasons('core/a.ts', '// biome-ignore lint/style/useTemplate: x')).toEqual([]);
  },
);

verifies(
  'repo.one-door',
  'the global ways out are refused outside upstream/',
  async () => {
    const out = ["fetch('http://x')", "new WebSocket('ws://x')", "new EventSource('http://x')"];
    const files = [...out, 'globalThis'].map((code, i) => [
      `gateway/g${i}.ts`,
      `export const x = ${code};\n`,
    ]);
    const allowed = out.map((code, i) => [`upstream/u${i}.ts`, `export const x = ${code};\n`]);
    using tree = plant({ ...Object.fromEntries(files), ...Object.fromEntries(allowed) });
    expect(await lint(tree.root)).toEqual(files.map(([name]) => `${name}: noRestrictedGlobals`));
  },
  { timeoutMs: 30_000 },
);

verifies(
  'repo.one-door',
  'a whole tree is read: planted files, unknown folders and emptiness',
  () => {
    {
      using tree = plant({ 'policy/a.ts': "import { connect } from 'node:net';\n" });
      expect(checkDoors(tree.root).map(({ file, line }) => [file, line])).toEqual([
        ['policy/a.ts', 1],
      ]);
    }
    {
      using tree = plant({ 'side-door/a.ts': 'export const a = 1;\n' });
      expect(checkDoors(tree.root)[0]?.reason).toContain('no layer');
    }
    {
      using tree = plant({});
      expect(checkDoors(tree.root)[0]?.reason).toBe('nothing to check');
    }
  },
);

verifies('repo.pure-core', 'Math.random is no way around the rule', () => {
  expect(reasons('core/a.ts', 'export const a = Math.random();')).toHaveLength(1);
  expect(reasons('config/a.ts', 'export const a = Math.random();')).toEqual([]);
});
