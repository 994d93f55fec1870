// A module of the installed package, as it was packed: what a fuzzer calls directly is what runs.

import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { installPacked } from '../packed.ts';

/** `path` below dist/, as `sandbox/dns.js`. */
export async function installedModule(path: string): Promise<unknown> {
  const launcher = process.env.BELAY_INSTALLED ?? (await installPacked());
  return await import(pathToFileURL(join(dirname(launcher), '../dist', path)).href);
}
