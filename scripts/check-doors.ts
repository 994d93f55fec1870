// The one door (I1): outside src/upstream/ no module may be able to open a connection to the world.
// A module that could is imported by name, and only with the names listed here for that file, so a
// default or namespace import, a dynamic import or a require fails too. Fails closed: whatever it
// does not recognise is a finding, and so is a tree in which it found nothing to read. Also refuses
// what would blind Biome's import rules: a folder without a layer, or a comment that silences them.
//
//   node scripts/check-doors.ts [ROOT]

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const SOURCE = 'packages/belay/src';
const NODE_DOORS = ['net', 'tls', 'http', 'https', 'http2', 'dgram', 'dns', 'dns/promises'];
const DOORS = [...NODE_DOORS.map((name) => `node:${name}`), 'undici', '@hono/node-server'];

interface Allowance {
  readonly files: RegExp;
  readonly module: string;
  readonly names: readonly string[];
  /** Can connect anywhere: each call must name the path of a unix socket. */
  readonly unix?: true;
}

const SANDBOX = /^sandbox\/(bridge|guard|guard-client)\.ts$/;

/** Everything outside upstream/ that touches such a module, with the reason in its file's head. */
const ALLOWED: readonly Allowance[] = [
  { files: /./, module: 'node:net', names: ['isIP', 'isIPv4', 'isIPv6'] },
  { files: /^gateway\//, module: 'node:net', names: ['createServer', 'Server'] },
  { files: /^gateway\//, module: 'node:http', names: ['createServer', 'Server', 'ServerResponse'] },
  { files: /^gateway\//, module: 'node:http', names: ['STATUS_CODES', 'IncomingMessage'] },
  { files: /^gateway\//, module: 'node:tls', names: ['createServer', 'createSecureContext'] },
  { files: /^gateway\//, module: 'node:tls', names: ['TLSSocket'] },
  { files: /^sandbox\/bridge\.ts$/, module: 'node:dgram', names: ['createSocket'] },
  { files: SANDBOX, module: 'node:net', names: ['createServer', 'Server'] },
  { files: SANDBOX, module: 'node:net', names: ['connect', 'createConnection'], unix: true },
  { files: /^control\//, module: 'node:net', names: ['createServer', 'Server'] },
  { files: /^control\//, module: 'node:http', names: ['createServer', 'Server'] },
  { files: /^control\//, module: '@hono/node-server', names: ['createAdaptorServer'] },
  { files: /^control\/client\.ts$/, module: 'node:http', names: ['request'], unix: true },
  // The demo's stand-ins for the world: servers on loopback.
  { files: /^demo\/[^/]+$/, module: 'node:http', names: ['createServer', 'Server'] },
  { files: /^demo\/[^/]+$/, module: 'node:http', names: ['ServerResponse'] },
  { files: /^demo\/[^/]+$/, module: 'node:https', names: ['createServer'] },
  { files: /^demo\/[^/]+$/, module: 'node:tls', names: ['createSecureContext'] },
];

export interface Finding {
  readonly file: string;
  readonly line: number;
  readonly reason: string;
}

/** What is wrong in one file; `file` is its path below src/. */
export function findingsIn(file: string, source: string): readonly Finding[] {
  const code = withoutComments(source);
  const found: Finding[] = [];
  const report = (index: number, reason: string): void => {
    found.push({ file, line: code.slice(0, index).split('\n').length, reason });
  };
  for (const { index, 0: text } of source.matchAll(
    /biome-ignore(-all|-start)?\s+lint(\/style\/noRestricted\w*|\/suspicious\/noImportCycles|\/style\b(?!\/)|\/suspicious\b(?!\/)|:)/g,
  )) {
    found.push({
      file,
      line: source.slice(0, index).split('\n').length,
      reason: `\`${text.trim()}\` silences the import rules`,
    });
  }
  if (file.startsWith('core/')) {
    for (const match of code.matchAll(/\bMath\s*\.\s*random\b/g)) {
      report(match.index, 'core/ takes randomness as a parameter');
    }
  }
  // What runs inside the sandbox, as the agent, is what the door is closed to.
  if (file.startsWith('upstream/') || file.startsWith('demo/inside/')) return found;

  for (const match of code.matchAll(
    /\b(?:getBuiltinModule|createRequire|require)\b|\bprocess\s*\.\s*binding\b|\bimport\s*\(\s*(?!['"])/g,
  )) {
    // The ledger's writer is told by the ledger which file operations it has; nobody else can.
    if (file === 'ledger/writer-thread.ts' && match[0].startsWith('import')) continue;
    report(match.index, `\`${match[0].trim()}\` can load any module: import it by name`);
  }
  for (const match of code.matchAll(
    /(?:\bfrom|\bimport\s*\(?)\s*(['"])(net|tls|https?|http2|dgram|dns|dns\/promises)\1/g,
  )) {
    report(match.index, `\`${match[2]}\` needs \`node:\``);
  }
  const known = new Set<number>();
  const clients: string[] = [];
  for (const match of code.matchAll(
    /\bimport\s+(type\s+)?\{([^}]*)\}\s*from\s*(['"])([^'"]+)\3/g,
  )) {
    const module = match[4] as string;
    if (!isDoor(module)) continue;
    known.add(match.index + match[0].lastIndexOf(module));
    if (match[1] !== undefined) continue;
    for (const { name, alias } of importedNames(match[2] as string)) {
      const by = ALLOWED.find(
        (entry) => entry.module === module && entry.files.test(file) && entry.names.includes(name),
      );
      if (by === undefined)
        report(match.index, `\`${name}\` of \`${module}\` belongs in upstream/`);
      else if (by.unix) clients.push(alias);
    }
  }
  for (const match of code.matchAll(/(['"`])((?:node:|undici|@hono\/node-server)[^'"`\n]*)\1/g)) {
    const module = match[2] as string;
    if (isDoor(module) && !known.has(match.index + 1)) {
      report(match.index, `\`${module}\` is imported by name here or not at all`);
    }
  }
  for (const { index, reason } of otherThanUnix(code, clients)) report(index, reason);
  return found;
}

function isDoor(module: string): boolean {
  return DOORS.some((door) => module === door || module.startsWith(`${door}/`));
}

/**
 * Each use of a function that can also connect elsewhere is a call that names a path and nothing
 * before it; passed on as a value, it could be called with anything.
 */
function otherThanUnix(
  code: string,
  clients: readonly string[],
): readonly { readonly index: number; readonly reason: string }[] {
  const body = code.replace(/\bimport\s+(?:type\s+)?\{[^}]*\}/g, (text) =>
    text.replace(/\w/g, ' '),
  );
  return clients.flatMap((name) =>
    [...body.matchAll(new RegExp(`(?<![.\\w$])${name}\\b(?!\\s*:)`, 'g'))]
      .filter(({ index }) => {
        const after = body.slice(index + name.length);
        return !/^\s*\(\s*(?:\{\s*)?(?:path|socketPath)\b/.test(after);
      })
      .map(({ index }) => ({
        index,
        reason: `\`${name}\` opens a unix socket by its path or nothing`,
      })),
  );
}

/** The names that are imported as values, and what they are called here. */
function importedNames(list: string): readonly { readonly name: string; readonly alias: string }[] {
  return list
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '' && !/^type\s/.test(part))
    .map((part) => {
      const [name = '', alias = name] = part.split(/\s+as\s+/);
      return { name, alias };
    });
}

/** Comments become spaces; line breaks stay, so that positions keep their lines. */
function withoutComments(source: string): string {
  const token =
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g;
  return source.replace(token, (text) =>
    /^\/[/*]/.test(text) ? text.replace(/[^\n]/g, ' ') : text,
  );
}

/** The findings of a whole tree. */
export function checkDoors(root: string): readonly Finding[] {
  const source = join(root, SOURCE);
  const files = globSync('**/*.{ts,mts,cts,js,mjs,cjs}', { cwd: source }).sort();
  if (files.length === 0) return [{ file: SOURCE, line: 1, reason: 'nothing to check' }];
  const layers = readFileSync(join(root, 'biome.json'), 'utf8');
  const unlayered = new Set(
    files
      .filter((file) => file.includes('/'))
      .map((file) => file.split('/')[0] as string)
      .filter((folder) => !layers.includes(`"${SOURCE}/${folder}/**"`)),
  );
  return [
    ...[...unlayered].map((folder) => ({
      file: folder,
      line: 1,
      reason: 'the folder has no layer in biome.json',
    })),
    ...files.flatMap((file) => findingsIn(file, readFileSync(join(source, file), 'utf8'))),
  ];
}

if (import.meta.main) {
  const findings = checkDoors(process.argv[2] ?? process.cwd());
  for (const { file, line, reason } of findings) {
    process.stderr.write(`${SOURCE}/${file}:${line}: ${reason}\n`);
  }
  process.exitCode = findings.length === 0 ? 0 : 1;
}
