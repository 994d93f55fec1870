// Reads the secrets that a run needs, once, with the user's rights, for the launcher to hand over.
// Only credentials of the run's environment are read. A value is never in a message.

import { closeSync, constants, fstatSync, openSync, readFileSync, realpathSync } from 'node:fs';
import { resolve, sep } from 'node:path';
import { BelayError } from '../core/errors.ts';
import { type ConfigBundle, parseBundle } from './bundle.ts';
import type { CredentialConfig } from './config.ts';
import { askHelper } from './helper.ts';
import { type Asked, selectGrant } from './select.ts';

const MOST_BYTES = 65_536;

/**
 * Values by the name of the credential. `directory` is what a relative `file:` starts from; it and
 * `writable`, real paths, are what agents can write. Throws ERR_SECRET with the place of the reference
 * when one cannot be read.
 */
export function readSecrets(
  bundle: ConfigBundle,
  env: Readonly<Record<string, string | undefined>>,
  asked: Asked = {},
  directory: string = '.',
  writable: readonly string[] = [],
): Record<string, string> {
  const config = parseBundle(bundle);
  if (config.credentials.length === 0) return {};
  const { environment } = selectGrant(config, asked);
  const values: Record<string, string> = {};
  for (const credential of config.credentials) {
    if (credential.environment !== environment) continue;
    values[credential.name] = readSecret(credential, env, directory, writable);
  }
  return values;
}

/** Where a `file:` reference points; `~` is the caller's home. */
export function secretPath(
  path: string,
  directory: string,
  env: Readonly<Record<string, string | undefined>>,
): string {
  return resolve(
    directory,
    path.replace(/^~(?=\/)/, () => env.HOME ?? '~'),
  );
}

function readSecret(
  credential: CredentialConfig,
  env: Readonly<Record<string, string | undefined>>,
  directory: string,
  writable: readonly string[],
): string {
  const { from } = credential;
  if (from.kind === 'env') {
    const value = env[from.name];
    if (value === undefined || value === '') {
      throw refused(
        credential,
        `the variable \`${from.name}\` is not set`,
        `export ${from.name}, or delete the credential`,
      );
    }
    return checked(credential, value);
  }
  if (from.kind === 'exec') {
    const answer = askHelper(from, env, [realpathSync(directory), ...writable]);
    if (answer.kind === 'said') return checked(credential, answer.text);
    throw refused(credential, `the helper \`${from.program}\` ${answer.why}`, answer.hint);
  }
  let text: string;
  try {
    const workdir = realpathSync(directory);
    text = readText(secretPath(from.path, workdir, env), workdir);
  } catch (error) {
    throw refused(
      credential,
      `\`${from.path}\` cannot be read: ${why(error)}`,
      'check the path and its permissions',
    );
  }
  return checked(credential, text.replace(/\r?\n$/, ''));
}

/** In the workspace, where agents write, no link is followed: it would lead where one of them chose. */
function readText(path: string, workdir: string): string {
  const inside = path.startsWith(workdir + sep);
  if (inside && realpathSync(path) !== path) throw new TypeError('a symbolic link leads there');
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_RDONLY | O_NONBLOCK | (inside ? O_NOFOLLOW : 0));
  try {
    const found = fstatSync(fd);
    if (!found.isFile()) throw new TypeError('it is not a regular file');
    if (found.size > MOST_BYTES) throw new TypeError('it is larger than 64 KiB');
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

/** A value becomes part of a header: what a header cannot hold is refused before it is used. */
function checked(credential: CredentialConfig, value: string): string {
  if (value === '') throw refused(credential, 'the secret is empty');
  if (!/^[\x20-\x7e]+$/.test(value)) {
    throw refused(credential, 'the secret has characters that a header cannot hold');
  }
  return value;
}

function refused({ name, origin }: CredentialConfig, reason: string, hint?: string): BelayError {
  const message = `${origin}: credential \`${name}\`: ${reason}`;
  return new BelayError('ERR_SECRET', message, hint === undefined ? {} : { hint });
}

function why(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'it does not exist';
  if (code === 'EACCES') return 'permission denied';
  return message;
}
