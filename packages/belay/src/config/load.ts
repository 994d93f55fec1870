// Reads a workspace's configuration with the user's own rights into one bundle: belay.jsonc, the
// policy files, the authorities of declared upstreams. Of a PEM file only certificates are kept, so
// that no key that stands beside one travels. Sizes are bounded; a missing belay.jsonc is allowed.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { BelayError, reasonOf } from '../core/errors.ts';
import { bundleDigest, type ConfigBundle } from './bundle.ts';
import type { Config, PolicyText } from './config.ts';
import { CONFIG_FILE, defaultConfig, parseConfig } from './parse.ts';

const MOST_BYTES = 1 << 20;
const MOST_POLICY_FILES = 256;
const POLICY_DIRECTORY = 'policies';
const POLICY_TESTS_FILE = 'tests.jsonc';

/**
 * The bundle of a workspace. A belay.jsonc that only stands for one that is missing is none. Throws
 * ERR_CONFIG for a file that is broken or cannot be read.
 */
export function loadBundle(
  directory: string,
  standsIn: (path: string, text: string) => boolean = () => false,
): ConfigBundle {
  const path = join(directory, CONFIG_FILE);
  const found = readText(path, CONFIG_FILE);
  const text = found === undefined || standsIn(path, found) ? null : found;
  const config = text === null ? defaultConfig() : parseConfig(text);
  const content = {
    file: CONFIG_FILE,
    text,
    policies: readPolicies(directory, config),
    authorities: readAuthorities(directory, config),
  };
  return { ...content, digest: bundleDigest(content) };
}

/** The cases of `belay policy test`, or undefined when there are none. */
export function readPolicyTests(directory: string, config: Config): PolicyText | undefined {
  const file = join(config.policyDirectory ?? POLICY_DIRECTORY, POLICY_TESTS_FILE);
  const text = readText(resolve(directory, file), file);
  return text === undefined ? undefined : { file, text };
}

function readPolicies(directory: string, config: Config): readonly PolicyText[] {
  const folder = config.policyDirectory ?? POLICY_DIRECTORY;
  let names: readonly string[];
  try {
    names = readdirSync(resolve(directory, folder));
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    if (absent && config.policyDirectory === undefined) return [];
    throw unreadable(folder, error);
  }
  const files = names.filter((name) => name.endsWith('.cedar')).sort();
  if (files.length > MOST_POLICY_FILES) {
    throw new BelayError(
      'ERR_CONFIG',
      `\`${folder}\` holds more than ${MOST_POLICY_FILES} policy files`,
    );
  }
  return files.map((name) => {
    const file = join(folder, name);
    const text = readText(resolve(directory, file), file);
    // A file that went away between the two reads may have been a forbid: say so, do not skip it.
    if (text === undefined) throw new BelayError('ERR_CONFIG', `\`${file}\` does not exist`);
    return { file, text };
  });
}

function readAuthorities(directory: string, config: Config): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { authorityFile } of config.upstreams.values()) {
    if (authorityFile === undefined) continue;
    const text = readText(resolve(directory, authorityFile), authorityFile);
    const pem = text?.match(
      /-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g,
    );
    if (!pem) {
      throw new BelayError(
        'ERR_CONFIG',
        text === undefined
          ? `the authority \`${authorityFile}\` does not exist`
          : `\`${authorityFile}\` holds no certificate in PEM`,
      );
    }
    found[authorityFile] = `${pem.join('\n')}\n`;
  }
  return found;
}

/** The text of a regular file; undefined when it does not exist. */
function readText(path: string, shown: string): string | undefined {
  let bytes: Uint8Array;
  try {
    const found = statSync(path);
    if (!found.isFile()) throw new Error('it is not a regular file');
    if (found.size > MOST_BYTES) throw new Error('it is larger than 1 MiB');
    bytes = readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(shown, error);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new BelayError('ERR_CONFIG', `\`${shown}\` is not UTF-8`);
  }
}

function unreadable(shown: string, error: unknown): BelayError {
  const { code } = error as NodeJS.ErrnoException;
  const why =
    code === 'EACCES'
      ? 'permission denied'
      : code === 'ENOENT'
        ? 'it does not exist'
        : reasonOf(error);
  return new BelayError('ERR_CONFIG', `\`${shown}\` cannot be read: ${why}`, { cause: error });
}
