import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { writeThroughMcp } from '../../../src/demo/inside/mcp-write.ts';
import { copyPackage, findPackages, HERE, MCP_SERVER } from '../../../src/demo/packages.ts';
import { verifies } from '../../verifies.ts';

verifies('demo.story', 'missing packages are named with the line that installs them', () => {
  const empty = mkdtempSync(join(tmpdir(), 'belay-empty-'));
  try {
    expect(() => findPackages([empty])).toThrow(
      expect.objectContaining({
        code: 'ERR_HOST',
        hint: 'npm i -D emulate@0.12.2 @modelcontextprotocol/server-filesystem@2026.8.31',
      }),
    );
  } finally {
    rmSync(empty, { recursive: true });
  }
});

verifies(
  'demo.story',
  'a copy of the MCP server works by itself',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'belay-copy-'));
    try {
      const { mcpServer } = findPackages([HERE]);
      const server = copyPackage(mcpServer, MCP_SERVER.name, folder);
      expect(server.startsWith(folder)).toBe(true);
      const program = join(server, 'dist/index.js');
      const file = join(folder, 'NOTES.md');
      expect(await writeThroughMcp(program, folder, file, 'a note')).toMatchObject({
        result: 'done',
      });
      expect(readFileSync(file, 'utf8')).toBe('a note');
      // A folder that it was not given stays closed: the server is the real one.
      const outside = join(tmpdir(), 'belay-never.md');
      expect(await writeThroughMcp(program, folder, outside, '')).toMatchObject({
        result: 'refused',
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  { timeoutMs: 60_000 },
);
