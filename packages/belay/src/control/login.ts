// The launcher's side of a login that an agent holds already: whether a run uses it, reading it with the
// user's rights, and writing back what the daemon renewed. No login is read that a run may not use.

import { realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Config } from '../config/config.ts';
import { type Asked, selectGrant } from '../config/select.ts';
import { BelayError, reasonOf } from '../core/errors.ts';
import { excerpt } from '../core/excerpt.ts';
import { allowedTo } from '../policy/for-run.ts';
import { within } from '../sandbox/command.ts';
import { type ReadLogin, readLogin, writeLogin } from '../sandbox/profiles/login-file.ts';
import type { Login } from '../sandbox/profiles/profile.ts';
import { profileOf } from '../sandbox/profiles/profiles.ts';
import { type LoginAnswer, type LoginNotice, MOST_REASON } from './protocol.ts';

export interface OwnLogin {
  readonly login: Login;
  readonly read: ReadLogin;
  /** Does what the daemon asks, and says what came of it. */
  answer(notice: LoginNotice): LoginAnswer;
}

export interface LoginQuestion {
  readonly config: Config;
  readonly asked: Asked;
  readonly allow: readonly string[];
  readonly command: readonly string[];
  readonly userHome: string;
  /** Real paths of what the agent sees of the host. */
  readonly open: readonly string[];
}

/** Undefined: no login is used. Throws ERR_SECRET for a file that cannot be. */
export function findLogin({ config, asked, ...rest }: LoginQuestion): OwnLogin | undefined {
  const { allow, command, userHome, open } = rest;
  const login = profileOf(command)?.login;
  if (login === undefined) return undefined;
  const selected = selectGrant(config, asked);
  const granted = allowedTo(selected, allow).some(
    (entry) => entry.kind === 'preset' && entry.text === login.preset,
  );
  // What the user configured for the host goes first.
  const configured = config.credentials.some(
    ({ environment, host }) => environment === selected.environment && host === login.host,
  );
  if (!granted || configured) return undefined;
  const read = readLogin(login, userHome);
  if (read === undefined) return undefined;
  // It is no link itself; a folder above it may be.
  const file = join(realpathSync(dirname(read.path)), basename(read.path));
  const seenBy = open.find((path) => within(file, path));
  if (seenBy !== undefined) {
    throw new BelayError('ERR_SECRET', `the login in \`${read.path}\` is open to the agent`, {
      hint: `the agent is shown \`${seenBy}\`, with it: show it less`,
    });
  }
  return { login, read, answer: (notice) => answerTo(login, userHome, notice) };
}

function answerTo(login: Login, userHome: string, notice: LoginNotice): LoginAnswer {
  const { ticket } = notice;
  try {
    if (notice.ask === 'write') {
      const { spent, tokens } = notice;
      writeLogin(login, userHome, spent, tokens, Date.now());
      return { ticket };
    }
    const found = readLogin(login, userHome);
    return found === undefined
      ? { ticket, failed: 'nobody is signed in any more' }
      : { ticket, tokens: found.tokens };
  } catch (error) {
    return { ticket, failed: excerpt(reasonOf(error), MOST_REASON) };
  }
}
