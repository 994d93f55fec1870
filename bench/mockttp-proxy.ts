// mockttp as an intercepting proxy that passes everything through with the credential put in, and
// keeps no record. It is not in the workspace: the folder that holds it comes with the settings.

import { createRequire } from 'node:module';
import { join } from 'node:path';

export interface MockttpSettings {
  readonly home: string;
  readonly port: number;
  readonly upstreamCa: string;
  readonly authorization: string;
}

export interface MockttpReady {
  readonly ca: string;
}

/** The little of it that is used here. */
interface Mockttp {
  generateCACertificate(options: object): Promise<{ readonly key: string; readonly cert: string }>;
  getLocal(options: object): {
    start(port: number): Promise<void>;
    forAnyRequest(): { thenPassThrough(options: object): Promise<unknown> };
  };
}

async function serve({ home, port, upstreamCa, authorization }: MockttpSettings): Promise<void> {
  const { generateCACertificate, getLocal } = createRequire(join(home, 'package.json'))(
    'mockttp',
  ) as Mockttp;
  const { key, cert } = await generateCACertificate({
    subject: { commonName: 'mockttp of a bench' },
  });
  const server = getLocal({ https: { key, cert }, http2: false, recordTraffic: false });
  await server.start(port);
  await server.forAnyRequest().thenPassThrough({
    additionalTrustedCAs: [{ cert: upstreamCa }],
    transformRequest: { updateHeaders: { authorization } },
  });
  process.send?.({ ca: cert } satisfies MockttpReady);
}

if (import.meta.main) {
  process.once('message', (settings) => void serve(settings as MockttpSettings));
  process.on('disconnect', () => process.exit());
}
