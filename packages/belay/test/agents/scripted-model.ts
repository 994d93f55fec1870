// A model that says what the test wrote: Anthropic Messages, streamed. The answer to a request is the
// tool call whose number is the count of tool results so far, then a closing text. Small requests
// without tools, which an agent makes for itself, get a word.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Upstream } from '../system/upstreams.ts';

export const MODEL_HOST = 'api.anthropic.com';

interface Message {
  readonly role: string;
  readonly content: string | readonly { readonly type: string }[];
}

interface ModelRequest {
  readonly model?: string;
  readonly stream?: boolean;
  readonly tools?: readonly { readonly name: string }[];
  readonly messages?: readonly Message[];
}

/** Makes an upstream speak as the model; `commands` are run by the agent's Bash tool in turn. */
export function speakAsModel(upstream: Upstream, commands: readonly string[]): void {
  upstream.answer = (request, reply, { method, url }) => {
    const path = url.split('?', 1)[0] ?? '';
    if (method === 'POST' && path === '/v1/messages') {
      void readJson(request).then((asked) => say(reply, asked, contentFor(asked, commands)));
    } else if (method === 'POST' && path.endsWith('/count_tokens')) {
      json(reply, 200, { input_tokens: 100 });
    } else if (method === 'HEAD') {
      reply.writeHead(200).end();
    } else {
      json(reply, 404, { type: 'error', error: { type: 'not_found_error', message: path } });
    }
  };
}

function contentFor(asked: ModelRequest, commands: readonly string[]): object {
  const results = (asked.messages ?? [])
    .flatMap(({ content }) => (typeof content === 'string' ? [] : content))
    .filter(({ type }) => type === 'tool_result').length;
  const shell = asked.tools?.find(({ name }) => name.toLowerCase() === 'bash')?.name;
  const command = commands[results];
  if (shell === undefined) return { type: 'text', text: 'ok' };
  if (command === undefined) return { type: 'text', text: `done after ${results} tool calls` };
  const input = { command, description: `Step ${results + 1}` };
  return { type: 'tool_use', id: `toolu_${results + 1}`, name: shell, input };
}

function say(reply: ServerResponse, asked: ModelRequest, content: object): void {
  const isTool = 'input' in content;
  const stop = { stop_reason: isTool ? 'tool_use' : 'end_turn', stop_sequence: null };
  const usage = { input_tokens: 100, output_tokens: 20 };
  const message = { id: 'msg_1', type: 'message', role: 'assistant', model: asked.model, usage };
  if (asked.stream !== true) {
    json(reply, 200, { ...message, content: [content], ...stop });
    return;
  }
  const empty = isTool ? { ...content, input: {} } : { type: 'text', text: '' };
  const delta = isTool
    ? { type: 'input_json_delta', partial_json: JSON.stringify(content.input) }
    : { type: 'text_delta', text: (content as { readonly text?: string }).text };
  const events = [
    { type: 'message_start', message: { ...message, content: [], stop_reason: null } },
    { type: 'content_block_start', index: 0, content_block: empty },
    { type: 'content_block_delta', index: 0, delta },
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: stop, usage },
    { type: 'message_stop' },
  ];
  reply.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const event of events) {
    reply.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
  }
  reply.end();
}

function json(reply: ServerResponse, status: number, body: object): void {
  reply.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<ModelRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString()) as ModelRequest;
}
