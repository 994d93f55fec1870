// The two real services that the demo runs are development dependencies: found beside Belay or in
// the caller's project, never fetched. The MCP server and what it needs are copied, code only, into
// the folder that the sandbox shows read-only.

import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BelayError } from '../core/errors.ts';

const EMULATE = { name: 'emulate', version: '0.12.2' } as const;
export const MCP_SERVER = {
  name: '@modelcontextprotocol/server-filesystem',
  version: '2026.8.31',
} as const;

export interface FoundPackages {
  readonly emulate: string;
  readonly mcpServer: string;
}

/** Where Belay itself is installed. */
export const HERE = dirname(fileURLToPath(import.meta.url));

/** Their folders, in or above one of `starts`. Throws ERR_HOST with the line that installs them. */
export function findPackages(starts: readonly string[]): FoundPackages {
  const find = (name: string): string | undefined =>
    starts.map((start) => packageAbove(start, name)).find((found) => found !== undefined);
  const emulate = find(EMULATE.name);
  const mcpServer = find(MCP_SERVER.name);
  if (emulate !== undefined && mcpServer !== undefined) return { emulate, mcpServer };
  const missing = [
    ...(emulate === undefined ? [EMULATE] : []),
    ...(mcpServer === undefined ? [MCP_SERVER] : []),
  ];
  const names = missing.map(({ name }) => `\`${name}\``).join(' and ');
  const line = missing.map(({ name, version }) => `${name}@${version}`).join(' ');
  throw new BelayError('ERR_HOST', `the demo needs ${names}, not found here`, {
    hint: `npm i -D ${line}`,
  });
}

function packageAbove(start: string, name: string): string | undefined {
  for (let at = start; ; at = dirname(at)) {
    const folder = join(at, 'node_modules', name);
    if (existsSync(join(folder, 'package.json'))) return folder;
    if (at === dirname(at)) return undefined;
  }
}

const CODE = new Set(['.js', '.mjs', '.cjs', '.json', '.node']);

/**
 * Copies a package and its dependencies below `target/node_modules`; answers where the package is.
 * The tree keeps its shape, so that each package finds the versions that it was installed with.
 */
export function copyPackage(folder: string, name: string, target: string): string {
  const root = folder.slice(0, -join('node_modules', name).length);
  const seen = new Set<string>();
  const copy = (from: string): void => {
    if (seen.has(from)) return;
    seen.add(from);
    copyCode(from, join(target, relative(root, from)));
    const manifest = readFileSync(join(from, 'package.json'), 'utf8');
    const { dependencies = {} } = JSON.parse(manifest) as { dependencies?: object };
    for (const dependency of Object.keys(dependencies)) {
      const found = packageAbove(from, dependency);
      // Outside the root it would be copied outside the target.
      if (found?.startsWith(root)) copy(found);
    }
  };
  copy(folder);
  return join(target, 'node_modules', name);
}

/** Files of code only; nested packages come in their own turn. */
function copyCode(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const { name } = entry;
    if (entry.isDirectory() && name !== 'node_modules') copyCode(join(from, name), join(to, name));
    if (entry.isFile() && CODE.has(extname(name))) copyFileSync(join(from, name), join(to, name));
  }
}
