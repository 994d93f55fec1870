// A configuration with everything that it refers to, in one plain value. The launcher, which can
// read the user's files, makes it; the daemon, which cannot, parses it again from the texts and
// trusts nothing else in it. The digest names the content.

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { canonical } from '../core/canonical.ts';
import { BelayError } from '../core/errors.ts';
import type { LoadedConfig, UpstreamConfig } from './config.ts';
import { defaultConfig, parseConfig } from './parse.ts';
import { configError, problemAt } from './problem.ts';

const MOST_FILES = 256;
const MOST_FILE_CHARACTERS = 1 << 20;

const content = z.string().max(MOST_FILE_CHARACTERS);
const path = z.string().min(1).max(4096);

const bundleSchema = z.strictObject({
  file: path,
  /** Null: there is no belay.jsonc, and the defaults hold. */
  text: content.nullable(),
  policies: z
    .array(z.strictObject({ file: path, text: content }))
    .max(MOST_FILES)
    .readonly(),
  /** PEM certificates by path, as `upstreams` writes it. */
  authorities: z.record(path, content),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
});

export type ConfigBundle = Readonly<z.output<typeof bundleSchema>>;

/** SHA-256 over the canonical form of everything but the digest. */
export function bundleDigest(bundle: Omit<ConfigBundle, 'digest'>): string {
  const { file, text, policies, authorities } = bundle;
  const bytes = canonical({
    file,
    text,
    policies: policies.map((policy) => ({ ...policy })),
    authorities,
  });
  return createHash('sha256').update(bytes).digest('hex');
}

/**
 * The configuration in a bundle, whoever sent it. Throws ERR_CONFIG for a problem in a text, and
 * ERR_PROTOCOL for a bundle that is not one or whose digest does not fit.
 */
export function parseBundle(received: unknown): LoadedConfig {
  const parsed = bundleSchema.safeParse(received);
  if (!parsed.success) throw new BelayError('ERR_PROTOCOL', 'this is not a configuration bundle');
  const bundle = parsed.data;
  if (bundleDigest(bundle) !== bundle.digest) {
    throw new BelayError('ERR_PROTOCOL', 'the digest of the configuration bundle does not fit');
  }
  const { file, text, policies, authorities, digest } = bundle;
  if (text === null) return { ...defaultConfig(file), policies, digest };
  const config = parseConfig(text, file);
  const upstreams = new Map(
    [...config.upstreams].map(([host, upstream]) => [
      host,
      withAuthority(upstream, file, authorities),
    ]),
  );
  if (config.caps.calls !== undefined || config.caps.bytes !== undefined) {
    const at = Math.max(0, text.search(/"caps"/));
    const hint = 'write `caps` into a grant, or this into $BELAY_HOME/belay.jsonc';
    throw configError([
      problemAt(file, text, at, 'global caps have no effect in a workspace', hint),
    ]);
  }
  return { ...config, upstreams, policies, digest };
}

function withAuthority(
  upstream: UpstreamConfig,
  file: string,
  authorities: Readonly<Record<string, string>>,
): UpstreamConfig {
  const { authorityFile } = upstream;
  if (authorityFile === undefined) return upstream;
  const authority = Object.hasOwn(authorities, authorityFile)
    ? authorities[authorityFile]
    : undefined;
  if (authority === undefined) {
    throw new BelayError('ERR_CONFIG', `${file}: \`${authorityFile}\` is not in the bundle`);
  }
  return { ...upstream, authority };
}
