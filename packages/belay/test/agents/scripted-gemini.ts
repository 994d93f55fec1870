// A model that says what the test wrote: Gemini, streamed. Asked with a shell tool and no result yet,
// it calls the tool; small questions that the client asks for itself get an answer of their shape.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Upstream } from '../system/upstreams.ts';

interface Part {
  readonly functionResponse?: unknown;
}

interface Asked {
  readonly contents?: readonly { readonly parts?: readonly Part[] }[];
  readonly tools?: readonly { readonly functionDeclarations?: readonly { name: string }[] }[];
  readonly generationConfig?: { readonly responseMimeType?: string };
}

const SHELL = 'run_shell_command';
const CHOICE = { reasoning: 'x', model_choice: 'flash', next_speaker: 'user' };

export function speakAsGemini(upstream: Upstream, command: string): void {
  upstream.answer = (request, reply, { method, url }) => {
    const path = url.split('?', 1)[0] ?? '';
    if (method === 'POST' && path.endsWith(':streamGenerateContent')) {
      void readJson(request).then((asked) => {
        reply.writeHead(200, { 'content-type': 'text/event-stream' });
        reply.end(`data: ${JSON.stringify(answerTo(asked, command))}\n\n`);
      });
    } else if (method === 'POST' && path.endsWith(':generateContent')) {
      void readJson(request).then((asked) => json(reply, 200, answerTo(asked, command)));
    } else if (method === 'POST' && path.endsWith(':countTokens')) {
      json(reply, 200, { totalTokens: 100 });
    } else json(reply, 404, { error: { code: 404, message: path, status: 'NOT_FOUND' } });
  };
}

function answerTo(asked: Asked, command: string): object {
  const parts = (asked.contents ?? []).flatMap((content) => content.parts ?? []);
  const answered = parts.some(({ functionResponse }) => functionResponse !== undefined);
  const shell = asked.tools?.some(({ functionDeclarations }) =>
    functionDeclarations?.some(({ name }) => name === SHELL),
  );
  const asJson = asked.generationConfig?.responseMimeType === 'application/json';
  const part =
    shell === true && !answered
      ? { functionCall: { name: SHELL, args: { command, description: 'a step' } } }
      : { text: asJson ? JSON.stringify(CHOICE) : 'done' };
  return {
    candidates: [{ content: { role: 'model', parts: [part] }, finishReason: 'STOP', index: 0 }],
    usageMetadata: { promptTokenCount: 100, candidatesTokenCount: 20, totalTokenCount: 120 },
  };
}

function json(reply: ServerResponse, status: number, body: object): void {
  reply.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<Asked> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString()) as Asked;
}
