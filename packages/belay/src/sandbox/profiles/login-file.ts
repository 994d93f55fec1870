// The file in which an agent keeps how its user is signed in. It is read and written outside, with the
// user's rights; what the agent gets is a file of the same shape with placeholders, whose end is far
// off, so that it never tries to renew what it does not hold.

import { randomUUID } from 'node:crypto';
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BelayError } from '../../core/errors.ts';
import type { HomeFile, Login, Pointer } from './profile.ts';

export interface LoginTokens {
  readonly access: string;
  readonly refresh: string;
  readonly idToken?: string;
  /** Milliseconds since the epoch; absent: nobody says. */
  readonly expiresAt?: number;
}

/** What a login file says, and of which file it is. */
export interface ReadLogin {
  readonly path: string;
  readonly tokens: LoginTokens;
  readonly scopes: readonly string[];
  readonly document: Members;
}

type Members = Readonly<Record<string, unknown>>;

const MOST_BYTES = 64 * 1024;
const MOST_SCOPES = 64;
/** Between the name of the file and what makes that of its successor unique. */
const FRESH = '.belay-';
const LEFT_OVER_MS = 600_000;
/** 2100-01-01. */
const FAR_MS = 4_102_444_800_000;

/** Undefined when there is none, or nobody is signed in with it. Throws ERR_SECRET. */
export function readLogin(login: Login, userHome: string): ReadLogin | undefined {
  const path = join(userHome, login.path);
  const read = readWhole(path);
  if (read === undefined) return undefined;
  const document = parseMembers(path, read.text);
  const access = at(document, login.access);
  const refresh = at(document, login.refresh);
  if (!isToken(access) || !isToken(refresh)) return undefined;
  const idToken = login.idToken && at(document, login.idToken);
  const expiresAt = login.expiresAt === undefined ? endOf(access) : at(document, login.expiresAt);
  const scopes = login.renewal.scopes && at(document, login.renewal.scopes);
  return {
    path,
    document,
    tokens: {
      access,
      refresh,
      ...(isToken(idToken) ? { idToken } : {}),
      ...(typeof expiresAt === 'number' ? { expiresAt } : {}),
    },
    scopes: (Array.isArray(scopes) ? scopes : []).filter(isScope).slice(0, MOST_SCOPES),
  };
}

/** For the agent's home. `placeholders` stand where the tokens are in the user's own file. */
export function placeholderFile(
  login: Login,
  { document, tokens }: ReadLogin,
  placeholders: LoginTokens,
  nowMs: number,
): HomeFile {
  const file: Record<string, unknown> = {};
  const jwt = (token: string, placeholder: string): string =>
    login.claims === undefined ? placeholder : likeJwt(token, placeholder, login.claims);
  for (const pointer of login.kept) put(file, pointer, at(document, pointer));
  put(file, login.access, jwt(tokens.access, placeholders.access));
  put(file, login.refresh, placeholders.refresh);
  if (login.idToken !== undefined && placeholders.idToken !== undefined) {
    put(file, login.idToken, jwt(tokens.idToken ?? '', placeholders.idToken));
  }
  if (login.expiresAt !== undefined) put(file, login.expiresAt, FAR_MS);
  if (login.renewedAt !== undefined) put(file, login.renewedAt, new Date(nowMs).toISOString());
  return { path: login.path, content: `${JSON.stringify(file, null, 2)}\n`, when: 'always' };
}

/**
 * Writes renewed tokens where the file holds a refresh token that is spent, and keeps all else. What
 * someone else has written meanwhile stays. Throws ERR_SECRET.
 */
export function writeLogin(
  login: Login,
  userHome: string,
  spent: readonly string[],
  tokens: LoginTokens,
  nowMs: number,
): void {
  const path = join(userHome, login.path);
  removeLeftovers(path, nowMs);
  const read = readWhole(path);
  if (read === undefined) return;
  const document = structuredClone(parseMembers(path, read.text)) as Record<string, unknown>;
  const held = at(document, login.refresh);
  if (typeof held !== 'string' || !spent.includes(held)) return;
  put(document, login.access, tokens.access);
  put(document, login.refresh, tokens.refresh);
  if (login.idToken !== undefined) put(document, login.idToken, tokens.idToken);
  if (login.expiresAt !== undefined) put(document, login.expiresAt, tokens.expiresAt);
  if (login.renewedAt !== undefined) put(document, login.renewedAt, new Date(nowMs).toISOString());
  const spaces = /\n( +)"/.exec(read.text)?.[1]?.length ?? 0;
  replace(
    path,
    `${JSON.stringify(document, null, spaces)}${read.text.endsWith('\n') ? '\n' : ''}`,
    read.stats,
  );
}

/**
 * By a file of its own: another launcher, of this daemon or of another, may write at the same time.
 * CRASH: before the rename the old file is whole, and after it the new one; what is left over then is
 * removed by the next that writes.
 */
function replace(path: string, text: string, { mode, uid, gid }: Stats): void {
  const fresh = `${path}${FRESH}${randomUUID()}`;
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const fd = openSync(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    try {
      fchmodSync(fd, mode & 0o777);
      if (process.getuid?.() === 0) fchownSync(fd, uid, gid);
      writeFileSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
  const folder = openSync(dirname(path), constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** Of writers that are dead: one that lives takes milliseconds, and fails when its file is gone. */
function removeLeftovers(path: string, nowMs: number): void {
  const folder = dirname(path);
  const begins = `${basename(path)}${FRESH}`;
  let names: readonly string[];
  try {
    names = readdirSync(folder).filter((name) => name.startsWith(begins));
  } catch {
    return; // there is no file to write then, and whoever reads it says so
  }
  for (const name of names) {
    const found = lstatSync(join(folder, name), { throwIfNoEntry: false });
    if (found === undefined || nowMs - found.mtimeMs < LEFT_OVER_MS) continue;
    rmSync(join(folder, name), { force: true });
  }
}

function readWhole(path: string): { readonly text: string; readonly stats: Stats } | undefined {
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = constants;
  let fd: number;
  try {
    fd = openSync(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === 'ELOOP') throw unusable(path, 'it is a symbolic link');
    throw unusable(path, code === 'EACCES' ? 'permission denied' : `it cannot be opened (${code})`);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw unusable(path, 'it is not a regular file');
    if (stats.size > MOST_BYTES) throw unusable(path, 'it is larger than 64 KiB');
    return { text: readFileSync(fd, 'utf8'), stats };
  } finally {
    closeSync(fd);
  }
}

function parseMembers(path: string, text: string): Members {
  try {
    const value: unknown = JSON.parse(text);
    if (isMembers(value)) return value;
  } catch {
    // The parser's message would quote the file.
  }
  throw unusable(path, 'it is not a JSON object');
}

function unusable(path: string, why: string): BelayError {
  return new BelayError('ERR_SECRET', `the login in \`${path}\` cannot be used: ${why}`, {
    hint: 'sign in with the agent once more, or name a credential for its host in belay.jsonc',
  });
}

function at(document: Members, pointer: Pointer): unknown {
  let found: unknown = document;
  for (const name of pointer) {
    found = isMembers(found) && Object.hasOwn(found, name) ? found[name] : undefined;
  }
  return found;
}

function put(document: Record<string, unknown>, pointer: Pointer, value: unknown): void {
  if (value === undefined) return;
  let folder = document;
  for (const name of pointer.slice(0, -1)) {
    if (!isMembers(folder[name])) folder[name] = {};
    folder = folder[name] as Record<string, unknown>;
  }
  folder[pointer.at(-1) as string] = value;
}

function isMembers(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** RFC 6749 section 3.3. */
function isScope(value: unknown): value is string {
  return typeof value === 'string' && /^[!#-[\]-~]{1,200}$/.test(value);
}

/** It becomes part of a header. */
function isToken(value: unknown): value is string {
  return typeof value === 'string' && /^[!-~]{8,16384}$/.test(value);
}

/** A JWT that nobody signed: the placeholder is in the signature's place. */
function likeJwt(token: string, placeholder: string, claims: readonly string[]): string {
  const own = claimsOf(token);
  const kept = claims.filter((name) => Object.hasOwn(own, name)).map((name) => [name, own[name]]);
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = { ...Object.fromEntries(kept), exp: FAR_MS / 1000 };
  return [part({ alg: 'none', typ: 'JWT' }), part(body), placeholder].join('.');
}

/** Milliseconds since the epoch, when the token is a JWT that says it. */
export function endOf(token: string): number | undefined {
  const { exp } = claimsOf(token);
  return typeof exp === 'number' ? exp * 1000 : undefined;
}

function claimsOf(token: string): Members {
  try {
    const value: unknown = JSON.parse(
      Buffer.from(token.split('.')[1] ?? '', 'base64url').toString(),
    );
    return isMembers(value) ? value : {};
  } catch {
    return {}; // an opaque token
  }
}
