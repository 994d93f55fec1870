// Writes a file through a real MCP filesystem server over stdio, as an agent's client would:
// initialize, initialized, tools/call. The server is a child of the agent and inside its sandbox.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Attempt } from './report-line.ts';

const PATIENCE_MS = 10_000;

interface Reply {
  readonly id?: number;
  readonly error?: { readonly message: string };
  readonly result?: {
    readonly isError?: boolean;
    readonly serverInfo?: { readonly name: string };
    readonly content?: readonly { readonly text?: string }[];
  };
}

export async function writeThroughMcp(
  server: string,
  folder: string,
  path: string,
  content: string,
): Promise<Attempt> {
  const child = spawn(process.execPath, [server, folder], { stdio: ['pipe', 'pipe', 'ignore'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const send = (message: object): void => {
    child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  };
  const reply = async (id: number): Promise<Reply> => {
    for (;;) {
      const line = await lines.next();
      if (line.done === true) throw new Error('the MCP server went away');
      const message = JSON.parse(line.value) as Reply;
      if (message.id === id) return message;
    }
  };
  try {
    const clientInfo = { name: 'demo-agent', version: '1.0.0' };
    const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo };
    send({ id: 1, method: 'initialize', params });
    const name = (await reply(1)).result?.serverInfo?.name ?? 'unnamed';
    send({ method: 'notifications/initialized' });
    const args = { path, content };
    send({ id: 2, method: 'tools/call', params: { name: 'write_file', arguments: args } });
    const { error, result } = await reply(2);
    const text = error?.message ?? result?.content?.[0]?.text ?? '';
    const fine = error === undefined && result?.isError !== true;
    return { result: fine ? 'done' : 'refused', detail: `${name}: ${text}` };
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
}
