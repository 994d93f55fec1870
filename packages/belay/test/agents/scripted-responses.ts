// A model that says what the test wrote: OpenAI Responses, streamed. Asked with a shell tool and no
// result yet, it calls the tool; after the result it says that it is done.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { zstdDecompressSync } from 'node:zlib';
import type { Upstream } from '../system/upstreams.ts';

interface Tool {
  readonly type: string;
  readonly name?: string;
  readonly parameters?: { readonly properties?: Readonly<Record<string, { type?: string }>> };
}

interface Asked {
  readonly model?: string;
  readonly tools?: readonly Tool[];
  readonly input?: readonly { readonly type?: string }[];
}

const SHELLS = ['bash', 'shell', 'shell_command', 'local_shell', 'exec_command', 'container.exec'];

export function speakAsResponses(upstream: Upstream, command: string): void {
  upstream.answer = (request, reply, { method, url }) => {
    const path = url.split('?', 1)[0] ?? '';
    if (method === 'POST' && path.endsWith('/responses')) {
      void readJson(request).then((asked) => say(reply, asked, itemFor(asked, command)));
    } else if (method === 'GET' && path.endsWith('/models')) {
      json(reply, 200, { object: 'list', data: [], models: [] });
    } else {
      json(reply, 404, { error: { type: 'not_found_error', message: path } });
    }
  };
}

function itemFor(asked: Asked, command: string): object {
  const input = Array.isArray(asked.input) ? asked.input : [];
  const answered = input.some(({ type }) => type?.endsWith('_call_output'));
  const shell = asked.tools?.find(({ name, type }) => SHELLS.includes(name ?? type));
  if (shell === undefined || answered) {
    const content = [{ type: 'output_text', text: answered ? 'done' : 'ok', annotations: [] }];
    return { type: 'message', id: 'msg_1', role: 'assistant', status: 'completed', content };
  }
  const call = { id: 'fc_1', call_id: 'call_1', status: 'completed' };
  if (shell.type === 'local_shell') {
    const action = { type: 'exec', command: ['bash', '-lc', command], env: {} };
    return { ...call, type: 'local_shell_call', action };
  }
  const properties = shell.parameters?.properties ?? {};
  const args =
    properties.command?.type === 'array'
      ? { command: ['bash', '-lc', command] }
      : { [properties.cmd === undefined ? 'command' : 'cmd']: command, description: 'a step' };
  return { ...call, type: 'function_call', name: shell.name, arguments: JSON.stringify(args) };
}

function say(reply: ServerResponse, asked: Asked, item: object): void {
  const usage = {
    input_tokens: 100,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 20,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 120,
  };
  const response = { id: 'resp_1', object: 'response', model: asked.model, status: 'completed' };
  const whole = { ...response, output: [item], usage };
  const events = [
    { type: 'response.created', response: { ...whole, status: 'in_progress', output: [] } },
    { type: 'response.output_item.added', output_index: 0, item },
    { type: 'response.output_item.done', output_index: 0, item },
    { type: 'response.completed', response: whole },
  ];
  reply.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const [i, event] of events.entries()) {
    reply.write(
      `event: ${event.type}\ndata: ${JSON.stringify({ ...event, sequence_number: i })}\n\n`,
    );
  }
  reply.end();
}

function json(reply: ServerResponse, status: number, body: object): void {
  reply.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<Asked> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  const plain = request.headers['content-encoding'] === 'zstd' ? zstdDecompressSync(bytes) : bytes;
  return JSON.parse(plain.toString()) as Asked;
}
