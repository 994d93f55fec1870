// Calls, bundles and policies for the tests of policy/.

import { bundleDigest, type ConfigBundle } from '../../../src/config/bundle.ts';
import type { PolicyText } from '../../../src/config/config.ts';
import { parseHost } from '../../../src/core/target.ts';
import type { CallFacts } from '../../../src/policy/classify.ts';

export interface CallShape {
  readonly method?: string;
  readonly body?: CallFacts['body'];
}

export function callTo(text: string, shape: CallShape = {}): CallFacts {
  const url = new URL(text);
  const scheme = url.protocol === 'http:' ? 'http' : 'https';
  return {
    kind: 'http',
    method: shape.method ?? 'GET',
    target: {
      scheme,
      host: parseHost(url.hostname),
      port: url.port === '' ? (scheme === 'https' ? 443 : 80) : Number(url.port),
    },
    path: url.pathname,
    query: url.search.slice(1),
    body: shape.body ?? { kind: 'none' },
  };
}

export const CONFIG = `{
  "version": 1,
  "agents": { "claude": { "environment": "dev" } },
  "environments": { "dev": {}, "prod": {} },
  "grants": [
    { "agent": "claude", "environment": "dev",
      "allow": ["npm-read", "example.com:8443"] }
  ],
  "routes": {
    "refund": { "host": "pay.example", "methods": ["POST"], "paths": ["/v1/refunds", "/v1/charges/*/refunds"],
      "fields": { "amount": "long", "to": { "type": "string", "at": ["order", "to"] } } },
    "inbox": { "host": "mail.example", "methods": ["GET"], "paths": ["/**"], "taint": "mail" }
  }
}`;

export function bundleOf(text: string | null, ...policies: readonly PolicyText[]): ConfigBundle {
  const content = { file: 'belay.jsonc', text, policies: [...policies], authorities: {} };
  return { ...content, digest: bundleDigest(content) };
}

export const policyFile = (text: string, file: string = 'policies/web.cedar'): PolicyText => ({
  file,
  text,
});
