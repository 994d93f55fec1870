// Logins that agents hold already, as the daemon keeps them: one for each login file, shared by all runs
// that use it, so that a refresh token, which is spent by its use, is used once. A renewal is a Call like
// any other, raised here; the agent holds a placeholder before it and after.
// Order: the file is read again before a token is spent, and the new one is written by a launcher before
// a call goes on with it.

import type { Call, Result } from '../core/call.ts';
import type { Clock, Random, RunId } from '../core/ids.ts';
import { endOf, type LoginTokens } from '../sandbox/profiles/login-file.ts';
import type { Login } from '../sandbox/profiles/profile.ts';
import { PROFILES } from '../sandbox/profiles/profiles.ts';
import type { RenewedTokens } from '../vault/credential.ts';
import { createVault, type Vault } from '../vault/vault.ts';
import { credentialsOf, forAgent, type LoginCredential, namesOf } from './login-credentials.ts';
import type { LoginAnswer, LoginNotice, OpenRun } from './protocol.ts';
import { drain, renewalCall, wasSent } from './renewal.ts';

export interface JoinedLogin {
  readonly login: Login;
  readonly placeholders: LoginTokens;
  readonly credentials: readonly LoginCredential[];
}

/** A run that uses a login. */
export interface LoginUser {
  readonly run: RunId;
  readonly environment: string;
  readonly placeholderOf: (name: string, value?: string) => string;
  /** In the run's vault. */
  readonly renew: Vault['renew'];
  readonly notify: (notice: LoginNotice) => void;
}

export interface Logins {
  /** Undefined for a login that no profile knows. */
  join(user: LoginUser, asked: NonNullable<OpenRun['login']>): JoinedLogin | undefined;
  /** The launcher hears what is asked of it from now on. */
  opened(run: RunId): void;
  /** Until it is left. */
  has(run: RunId): boolean;
  /** Who judges a renewal of the run, and from where its tokens come; while there is one. */
  of(run: RunId): { readonly login: Login; readonly vault: Vault } | undefined;
  /** Carries a call out, with a login that is not about to end. */
  perform(call: Call, road: (call: Call) => Promise<Result>): Promise<Result>;
  /** What a launcher answers. */
  answer(run: RunId, answer: LoginAnswer): void;
  /** Waits, a bounded time, for a renewal that is under way, and for its being written: what was not
   * by then, the launcher is asked for once more. */
  leave(run: RunId): Promise<void>;
  /** Whether there is a login that no file has, or is about to be. */
  holds(): boolean;
}

interface Member extends LoginUser {
  readonly placeholders: LoginTokens;
  /** Until then it does not try again. */
  notBefore: number;
  /** Its launcher has the run; before, any other word would end it. */
  hears: boolean;
  /** For a renewal alone, and for as long as it lasts: the run's own is emptied at its end. */
  vault?: Vault;
}

interface State {
  readonly key: string;
  readonly login: Login;
  readonly scopes: readonly string[];
  tokens: LoginTokens;
  readonly users: Map<RunId, Member>;
  /** Refresh tokens that were used and gave another, the last ones. */
  spent: ReadonlySet<string>;
  /** What no launcher has said to be written: in the file may be any of what was spent until then. */
  unwritten: { readonly spent: readonly string[] } | undefined;
  writing: Promise<void> | undefined;
  renewing: Promise<void> | undefined;
  renewedAt: number;
  notBefore: number;
  /** The host did not take the access token. */
  refused: boolean;
}

/** Before its end an access token is renewed. */
const AHEAD_MS = 60_000;
/** Between two attempts of a run; and of all, once the endpoint was asked. */
const PATIENCE_MS = 30_000;
const LAUNCHER_MS = 5_000;
/** A file that holds an older one was put back by somebody. */
const MOST_SPENT = 64;
const UNAUTHORIZED = 401;

export interface LoginsParts {
  /** The road of a renewal: it is judged by what `of` its run says, and by nothing else. */
  readonly raise: (call: Call) => Promise<Result>;
  readonly clock: Clock;
  readonly random: Random;
}

export function createLogins({ raise, clock, random }: LoginsParts): Logins {
  const states = new Map<string, State>();
  const byRun = new Map<RunId, State>();
  const waiting = new Map<string, (answer: LoginAnswer) => void>();
  let tickets = 0;

  const ask = (
    user: LoginUser,
    what: { ask: 'read' } | { ask: 'write'; spent: readonly string[]; tokens: LoginTokens },
  ): Promise<LoginAnswer | undefined> => {
    const ticket = tickets++;
    const key = `${user.run} ${ticket}`;
    return new Promise((resolve) => {
      const over = (answer?: LoginAnswer): void => {
        waiting.delete(key);
        clearTimeout(timer);
        resolve(answer);
      };
      const timer = setTimeout(over, LAUNCHER_MS);
      waiting.set(key, over);
      user.notify({ kind: 'login', ticket, ...what });
    });
  };

  const adopt = (state: State, tokens: LoginTokens): void => {
    state.tokens = tokens;
    state.refused = false;
    const names = namesOf(state.login);
    const values = {
      [names.access]: tokens.access,
      [names.refresh]: tokens.refresh,
      ...(tokens.idToken === undefined ? {} : { [names.idToken]: tokens.idToken }),
    };
    for (const { renew } of state.users.values()) renew(values);
  };

  /** CRASH: until a launcher has written it, a new refresh token is in memory alone. So all are told,
   * and what none of them could write is given to the next run that comes with the spent one. */
  const write = async (state: State): Promise<void> => {
    const { unwritten, tokens } = state;
    if (unwritten === undefined) return;
    const users = [...state.users.values()].filter(({ hears }) => hears);
    const told = users.map(async (user) => {
      const answer = await ask(user, { ask: 'write', spent: unwritten.spent, tokens });
      if (answer === undefined || answer.failed !== undefined) throw new Error('not written');
    });
    await Promise.any(told).then(
      () => {
        if (state.tokens === tokens) state.unwritten = undefined;
      },
      () => {}, // it stays unwritten
    );
  };

  const renewed = (state: State, { values, expiresInS }: RenewedTokens): void => {
    const { access_token: access, refresh_token: refresh, id_token: idToken } = values;
    if (access === undefined && refresh === undefined) return;
    const now = clock();
    const before = state.tokens;
    const id = idToken ?? before.idToken;
    if (refresh !== undefined && refresh !== before.refresh) {
      state.spent = new Set([...state.spent, before.refresh].slice(-MOST_SPENT));
    }
    // The last one to be got may have been written by a launcher that did not come to say so.
    state.unwritten = { spent: [...new Set([...state.spent, before.refresh])] };
    let { expiresAt } = before;
    // Without one that can be held the old one stays, and the new refresh token is kept all the same.
    if (access !== undefined) {
      state.renewedAt = now;
      expiresAt = expiresInS === undefined ? endOf(access) : now + expiresInS * 1000;
    }
    adopt(state, {
      access: access ?? before.access,
      refresh: refresh ?? before.refresh,
      ...(id === undefined ? {} : { idToken: id }),
      ...(expiresAt === undefined ? {} : { expiresAt }),
    });
    state.writing = write(state);
  };

  const due = ({ tokens: { expiresAt }, refused }: State): boolean =>
    refused || (expiresAt !== undefined && expiresAt - clock() < AHEAD_MS);

  const mayTry = ({ users, notBefore }: State, run: RunId): boolean =>
    clock() >= Math.max(notBefore, users.get(run)?.notBefore ?? 0);

  const renew = async (state: State, run: RunId): Promise<void> => {
    const user = state.users.get(run);
    if (user === undefined) return;
    user.notBefore = clock() + PATIENCE_MS;
    // CRASH: nothing is spent when there is nobody to write what it gives.
    const answer = await ask(user, { ask: 'read' });
    const found = answer?.tokens;
    if (found === undefined) return;
    const other = found.access !== state.tokens.access || found.refresh !== state.tokens.refresh;
    // The user's own agent was faster.
    if (other && !state.spent.has(found.refresh)) adopt(state, found);
    if (!due(state)) return;
    const { login, scopes } = state;
    const { refresh } = user.placeholders;
    const credentials = credentialsOf(login, user.environment, state.tokens, (found) =>
      renewed(state, found),
    );
    user.vault = createVault(credentials, user.placeholderOf);
    try {
      const result = await raise(renewalCall({ login, scopes, run, refresh, clock, random }));
      // What this run alone may not do keeps no other from it.
      if (result.kind === 'response' || wasSent(result.denial)) {
        state.notBefore = clock() + PATIENCE_MS;
      }
      if (result.kind === 'response') await drain(result);
    } finally {
      delete user.vault;
    }
    await state.writing;
  };

  const forget = (state: State): void => {
    const idle = state.users.size === 0 && state.renewing === undefined;
    if (idle && state.unwritten === undefined) states.delete(state.key);
  };

  const withLogin = async (
    state: State,
    call: Call,
    road: (call: Call) => Promise<Result>,
  ): Promise<Result> => {
    if (state.renewing === undefined && due(state) && mayTry(state, call.run)) {
      state.renewing = renew(state, call.run).finally(() => {
        state.renewing = undefined;
        forget(state);
      });
    }
    await state.renewing;
    const { access } = state.tokens;
    const shown = state.users.get(call.run)?.placeholders.access ?? '';
    const used = call.headers.some(([name, value]) => {
      return name === 'authorization' && shown !== '' && value.includes(shown);
    });
    const result = await road(call);
    if (used && result.kind === 'response' && result.status === UNAUTHORIZED) {
      // The next call renews it; one that was renewed a moment ago is refused for another reason.
      const old = clock() - state.renewedAt > AHEAD_MS;
      if (state.tokens.access === access && old) state.refused = true;
    }
    return result;
  };

  return {
    join(user, { agent, file, tokens, scopes }) {
      const login = PROFILES.find((profile) => profile.login?.name === agent)?.login;
      if (login === undefined) return undefined;
      const key = `${login.name}\0${file}`;
      let state = states.get(key);
      if (state === undefined) {
        state = {
          ...{ key, login, scopes, tokens, users: new Map(), spent: new Set() },
          ...{ unwritten: undefined, writing: undefined, renewing: undefined },
          ...{ renewedAt: 0, notBefore: 0, refused: false },
        };
        states.set(key, state);
      } else if (!state.spent.has(tokens.refresh) && state.renewing === undefined) {
        adopt(state, tokens);
      }
      const names = namesOf(login);
      const placeholders: LoginTokens = {
        access: user.placeholderOf(names.access),
        refresh: user.placeholderOf(names.refresh),
        ...(login.idToken === undefined ? {} : { idToken: user.placeholderOf(names.idToken) }),
      };
      // What takes a renewal in is left to its own vault.
      const credentials = credentialsOf(login, user.environment, state.tokens, () => {});
      state.users.set(user.run, { ...user, placeholders, notBefore: 0, hears: false });
      byRun.set(user.run, state);
      return { login, placeholders, credentials: forAgent(credentials) };
    },

    opened(run) {
      const state = byRun.get(run);
      const user = state?.users.get(run);
      if (state === undefined || user === undefined) return;
      user.hears = true;
      state.writing = write(state);
    },

    has(run) {
      return byRun.has(run);
    },

    of(run) {
      const state = byRun.get(run);
      const user = state?.users.get(run);
      return state && user?.vault && { login: state.login, vault: user.vault };
    },

    perform(call, road) {
      const state = byRun.get(call.run);
      const { scheme, host, port } = call.target;
      if (state?.login.host !== host || scheme !== 'https' || port !== 443) return road(call);
      return withLogin(state, call, road);
    },

    answer(run, answer) {
      waiting.get(`${run} ${answer.ticket}`)?.(answer);
    },

    async leave(run) {
      const state = byRun.get(run);
      if (state === undefined) return;
      const over = new AbortController();
      const patience = new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LAUNCHER_MS);
        over.signal.addEventListener('abort', () => clearTimeout(timer));
      });
      const settled = Promise.resolve(state.renewing)
        .then(() => state.writing)
        .then(() => write(state));
      await Promise.race([settled, patience]);
      over.abort();
      byRun.delete(run);
      state.users.delete(run);
      forget(state);
    },

    holds() {
      return [...states.values()].some(
        ({ unwritten, renewing }) => unwritten !== undefined || renewing !== undefined,
      );
    },
  };
}
