// TLS contexts for intercepted hosts, minted when first asked for and kept for a while. Bounded,
// because an agent may ask for any name.

import { createSecureContext, type SecureContext } from 'node:tls';
import type { Clock } from '../../core/ids.ts';
import type { Authority } from './x509.ts';

/** A daemon lives for weeks, a leaf for days: it is minted anew long before it expires. */
const KEEP_MS = 86_400_000;
/**
 * Nothing that is said here leaves the host, so what would resist a later computer comes last: OpenSSL
 * keeps 6 KiB of it for as long as the connection lives, and it takes time. Older ones do not have it.
 */
const GROUPS = supported('X25519:P-256:P-384:P-521:X448:X25519MLKEM768') ?? 'auto';

function supported(ecdhCurve: string): string | undefined {
  try {
    createSecureContext({ ecdhCurve });
    return ecdhCurve;
  } catch {
    return undefined;
  }
}

export type LeafContexts = (host: string) => SecureContext;

export function createLeafContexts(authority: Authority, clock: Clock, max = 1000): LeafContexts {
  const kept = new Map<string, { readonly context: SecureContext; readonly until: number }>();
  return (host) => {
    const now = clock();
    const known = kept.get(host);
    if (known !== undefined) {
      kept.delete(host);
      if (now < known.until) {
        // A Map keeps the order of insertion: the first entry is the one least recently used.
        kept.set(host, known);
        return known.context;
      }
    }
    const { key, cert } = authority.mint(host, now);
    const context = createSecureContext({
      key,
      cert,
      minVersion: 'TLSv1.2',
      ecdhCurve: GROUPS,
      // Or the client's order would count.
      honorCipherOrder: true,
    });
    if (kept.size >= max) kept.delete(kept.keys().next().value as string);
    kept.set(host, { context, until: now + KEEP_MS });
    return context;
  };
}
