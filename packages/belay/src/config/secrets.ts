// Reads the secrets that a run needs, once, with the user's rights, for the launcher to hand over.
// Only credentials of the run's environment are read. A value is never in a message.

import { spawnSync } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  realpathSync,
} from 'node:fs';
import { isAbsolute, join, resolve, sep } from 'node:path';
import { BelayError } from '../core/errors.ts';
import { type ConfigBundle, parseBundle } from './bundle.ts';
import type { CredentialConfig, SecretSource } from './config.ts';
import { type Asked, selectGrant } from './select.ts';

const MOST_BYTES = 65_536;

/**
 * Values by the name of the credential. `directory` is what a relative `file:` starts from. Throws
 * ERR_SECRET with the place of the reference when one cannot be read.
 */
export function readSecrets(
  bundle: ConfigBundle,
  env: Readonly<Record<string, string | undefined>>,
  asked: Asked = {},
  directory: string = '.',
): Record<string, string> {
  const config = parseBundle(bundle);
  if (config.credentials.length === 0) return {};
  const { environment } = selectGrant(config, asked);
  const values: Record<string, string> = {};
  for (const credential of config.credentials) {
    if (credential.environment !== environment) continue;
    values[credential.name] = readSecret(credential, env, directory);
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
    return checked(credential, askHelper(credential, from, env, realpathSync(directory)));
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

const HELPER_MS = 10_000;

/** What it says on stderr may hold the secret, and is shown to nobody. */
function askHelper(
  credential: CredentialConfig,
  { program, args }: Extract<SecretSource, { kind: 'exec' }>,
  env: Readonly<Record<string, string | undefined>>,
  workdir: string,
): string {
  const fail = (reason: string, hint?: string) =>
    refused(credential, `the helper \`${program}\` ${reason}`, hint);
  const path = helperPath(program, env.PATH ?? '');
  if (path === undefined) throw fail('does not exist', 'write its whole path');
  // What an agent can write must not run outside its sandbox.
  if (path.startsWith(workdir + sep)) throw fail('is in the workspace', 'keep it outside');
  const { status, signal, stdout, error } = spawnSync(path, args, {
    cwd: '/',
    env,
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: HELPER_MS,
    killSignal: 'SIGKILL',
    maxBuffer: MOST_BYTES,
    encoding: 'utf8',
  });
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT') {
    throw fail(`did not answer within ${HELPER_MS / 1000} s`);
  }
  if (error !== undefined) throw fail(`cannot be asked: ${why(error)}`);
  if (status !== 0) throw fail(signal === null ? `ended with ${status}` : `was ended by ${signal}`);
  const text = stdout.replace(/\r?\n$/, '');
  if (text.includes('\n')) throw fail('said more than one line');
  return text;
}

/** Where it really is, or undefined. A name without a slash is looked for in PATH. */
function helperPath(program: string, path: string): string | undefined {
  const places = program.includes('/') ? [''] : path.split(':').filter((at) => isAbsolute(at));
  if (program.includes('/') && !isAbsolute(program)) return undefined;
  for (const place of places) {
    try {
      const found = realpathSync(place === '' ? program : join(place, program));
      accessSync(found, constants.X_OK);
      return found;
    } catch {
      // Not here.
    }
  }
  return undefined;
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
