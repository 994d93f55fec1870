// Logins as the daemon keeps them, at the edges of time that no run reaches at will: launchers that
// answer late or write at once, an endpoint that answers when its run is gone. Files, vaults and
// what launchers do with the file are real; the endpoint is ours, and spends each refresh token once.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { watchIdle } from '../../../src/control/idle.ts';
import { createLogins, type Logins } from '../../../src/control/logins.ts';
import type { LoginAnswer, LoginNotice } from '../../../src/control/protocol.ts';
import type { Call, Response, Result } from '../../../src/core/call.ts';
import type { RunId } from '../../../src/core/ids.ts';
import type { Denial, Step } from '../../../src/core/verdict.ts';
import { claude } from '../../../src/sandbox/profiles/claude.ts';
import { readLogin, writeLogin } from '../../../src/sandbox/profiles/login-file.ts';
import type { Login } from '../../../src/sandbox/profiles/profile.ts';
import { sourceOf } from '../../../src/vault/gather.ts';
import { verifies } from '../../verifies.ts';

const LOGIN = claude.login as Login;
const HOUR_MS = 3_600_000;
const ENVIRONMENT = 'local';
let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'belay-logins-'));
  mkdirSync(join(home, '.claude'));
});

afterEach(() => {
  vi.useRealTimers();
  rmSync(home, { recursive: true, force: true });
});

const path = () => join(home, LOGIN.path);
const held = (): string => readLogin(LOGIN, home)?.tokens.refresh ?? '';

function signIn(number: number): void {
  const tokens = { accessToken: `access-token-${number}`, refreshToken: `refresh-token-${number}` };
  writeFileSync(path(), JSON.stringify({ claudeAiOauth: { ...tokens, expiresAt: 1 } }));
}

verifies(
  'login.kept',
  'launchers that write one login at the same moment leave it whole, and nothing beside it',
  async () => {
    const rounds = 60;
    signIn(0);
    const leftover = `${path()}.belay-of-one-that-died`;
    writeFileSync(leftover, 'half');
    utimesSync(leftover, 1, 1);
    const source = new URL('../../../src/sandbox/profiles/', import.meta.url).href;
    const program = `
      import { writeLogin } from '${source}login-file.ts';
      import { claude } from '${source}claude.ts';
      const begun = Number(process.argv[1]);
      const failed = [];
      for (let i = 0; i < ${rounds}; i++) {
        while (Date.now() < begun + i * 20);
        const tokens = { access: 'access-token-' + 'x'.repeat(15_000), refresh: 'refresh-token-' + (i + 1) };
        const spent = Array.from({ length: i + 1 }, (_, k) => 'refresh-token-' + k);
        try {
          writeLogin(claude.login, '${home}', spent, tokens, Date.now());
        } catch (error) {
          failed.push(error.message);
        }
      }
      console.log(JSON.stringify(failed));
    `;
    const begun = `${Date.now() + 1_500}`;
    const writers = [0, 1].map(async () => {
      const args = ['--input-type=module-typescript', '-e', program, begun];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text) => {
        said += text;
      });
      await once(child, 'close');
      return said;
    });
    let over = false;
    const ended = Promise.all(writers).finally(() => {
      over = true;
    });
    while (!over) {
      expect(held()).toMatch(/^refresh-token-\d+$/);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(await ended).toEqual(['[]\n', '[]\n']);
    expect(held()).toBe(`refresh-token-${rounds}`);
    expect(readdirSync(join(home, '.claude'))).toEqual(['.credentials.json']);
  },
  { timeoutMs: 30_000 },
);

/** The daemon's side, with an endpoint and launchers that take their time. */
function openLogins() {
  const clock = { now: Date.now() };
  const endpoint = {
    takes: 0,
    number: 0,
    accessSize: 0,
    raisedBy: [] as string[],
    refuses: (_run: string): Step | undefined => undefined,
  };
  const raise = async (call: Call): Promise<Result> => {
    endpoint.raisedBy.push(call.run);
    const step = endpoint.refuses(call.run);
    if (step !== undefined) return { kind: 'denied', denial: { step } as Denial };
    // As the monitor does it: in, there, out.
    const { vault } = logins.of(call.run) ?? {};
    if (vault === undefined) throw new Error('of no login');
    const { body } = vault.inject(call, ENVIRONMENT);
    const asked = body.kind === 'buffered' ? Buffer.from(body.bytes).toString() : '';
    await new Promise((resolve) => setTimeout(resolve, endpoint.takes));
    const fits = asked.includes(`"refresh-token-${endpoint.number}"`);
    if (fits) endpoint.number += 1;
    const { number } = endpoint;
    const fresh = {
      access_token: `access-token-${number}`.padEnd(endpoint.accessSize, 'x'),
      refresh_token: `refresh-token-${number}`,
    };
    const text = JSON.stringify(fits ? { ...fresh, expires_in: 3600 } : { error: 'invalid_grant' });
    const answer: Response = {
      kind: 'response',
      status: fits ? 200 : 400,
      headers: [['content-type', 'application/json']],
      body: sourceOf(Buffer.from(text), undefined),
    };
    const shown = await vault.screen(call, ENVIRONMENT, answer);
    if (shown.kind !== 'screened') return { kind: 'denied', denial: { step: 'release' } as Denial };
    return shown.answer;
  };
  const logins: Logins = createLogins({
    raise,
    clock: () => clock.now,
    random: (size) => Buffer.alloc(size, 1),
  });
  const launcher = { saysWrittenAfter: 0, fails: false, heard: [] as string[], spent: 0 };
  const join = (run: string, opens = true): Record<string, string> => {
    const found = readLogin(LOGIN, home);
    const id = run as RunId;
    const values: Record<string, string> = {};
    const joined = logins.join(
      {
        run: id,
        environment: ENVIRONMENT,
        placeholderOf: (name) => `blp-${name}-${'0'.repeat(32)}`,
        renew: (found) => {
          Object.assign(values, found);
        },
        notify(notice) {
          if (notice.kind !== 'login') return;
          launcher.heard.push(run);
          const after = notice.ask === 'write' ? launcher.saysWrittenAfter : 0;
          const answer = done(notice);
          setTimeout(() => logins.answer(id, answer), after);
        },
      },
      { agent: 'claude', file: path(), tokens: found?.tokens as never, scopes: [] },
    );
    for (const { spec, value } of joined?.credentials ?? []) values[spec.name] ??= value;
    if (opens) logins.opened(id);
    return values;
  };
  const done = (notice: LoginNotice): LoginAnswer => {
    const { ticket } = notice;
    if (notice.ask === 'write') {
      launcher.spent = notice.spent.length;
      if (launcher.fails) return { ticket, failed: 'no room' };
      writeLogin(LOGIN, home, notice.spent, notice.tokens, clock.now);
      return { ticket };
    }
    const found = readLogin(LOGIN, home);
    return found === undefined ? { ticket, failed: 'none' } : { ticket, tokens: found.tokens };
  };
  const target = { scheme: 'https', host: LOGIN.host, port: 443 };
  const call = (run: string): Promise<Result> =>
    logins.perform({ run, target, headers: [] } as unknown as Call, async () => {
      return { kind: 'denied', denial: {} as Denial };
    });
  return { logins, clock, endpoint, launcher, join, call };
}

verifies(
  'login.kept',
  'what the endpoint answers when the run is long gone is held for the next one',
  async () => {
    vi.useFakeTimers();
    signIn(0);
    const { logins, endpoint, join, call } = openLogins();
    endpoint.takes = 20_000;
    join('r-first');
    const called = call('r-first');
    await vi.advanceTimersByTimeAsync(100);
    const left = logins.leave('r-first' as RunId);
    await vi.advanceTimersByTimeAsync(6_000);
    await left;
    await vi.advanceTimersByTimeAsync(20_000);
    await called;
    expect(endpoint.number).toBe(1);
    expect(held()).toBe('refresh-token-0');
    expect(Object.values(join('r-next'))).toContain('access-token-1');
    logins.opened('r-next' as RunId);
    await vi.advanceTimersByTimeAsync(100);
    expect(held()).toBe('refresh-token-1');
  },
);

verifies(
  'login.kept',
  'a launcher that wrote and said so too late does not keep the next token out of the file',
  async () => {
    vi.useFakeTimers();
    signIn(0);
    const { clock, launcher, join, call } = openLogins();
    join('r-first');
    launcher.saysWrittenAfter = 6_000;
    const first = call('r-first');
    await vi.advanceTimersByTimeAsync(10_000);
    await first;
    expect(held()).toBe('refresh-token-1');
    launcher.saysWrittenAfter = 0;
    clock.now += 2 * HOUR_MS;
    const second = call('r-first');
    await vi.advanceTimersByTimeAsync(10_000);
    await second;
    expect(held()).toBe('refresh-token-2');
  },
);

verifies(
  'login.renewed',
  'a run that may not call keeps no other from renewing, and a host that refuses keeps all',
  async () => {
    vi.useFakeTimers();
    signIn(0);
    const { clock, endpoint, join, call } = openLogins();
    join('r-spent');
    join('r-other');
    endpoint.refuses = (run) => (run === 'r-spent' ? 'reserve' : undefined);
    for (let i = 0; i < 3; i++) {
      const spent = call('r-spent');
      await vi.advanceTimersByTimeAsync(10);
      await spent;
    }
    expect(endpoint.raisedBy).toEqual(['r-spent']);
    const other = call('r-other');
    await vi.advanceTimersByTimeAsync(10);
    await other;
    expect(endpoint.raisedBy).toEqual(['r-spent', 'r-other']);
    expect(held()).toBe('refresh-token-1');
    // What was sent and gave nothing is not tried again by the next.
    clock.now += 2 * HOUR_MS;
    endpoint.refuses = () => 'carry out';
    for (const run of ['r-other', 'r-spent', 'r-other']) {
      const called = call(run);
      await vi.advanceTimersByTimeAsync(10);
      await called;
    }
    expect(endpoint.raisedBy).toEqual(['r-spent', 'r-other', 'r-other']);
  },
);

verifies(
  'login.kept',
  'a launcher hears of its login when it has its run, and not before',
  async () => {
    vi.useFakeTimers();
    signIn(0);
    const { logins, launcher, join, call } = openLogins();
    join('r-first');
    launcher.fails = true;
    const called = call('r-first');
    await vi.advanceTimersByTimeAsync(100);
    await called;
    join('r-second', false);
    launcher.heard.length = 0;
    logins.opened('r-first' as RunId);
    await vi.advanceTimersByTimeAsync(100);
    expect(launcher.heard).toEqual(['r-first']);
    launcher.fails = false;
    logins.opened('r-second' as RunId);
    await vi.advanceTimersByTimeAsync(100);
    expect(launcher.heard).toEqual(['r-first', 'r-first', 'r-second']);
    expect(held()).toBe('refresh-token-1');
  },
);

verifies(
  'login.kept',
  'a login that no launcher could write is tried once more at the end, and keeps the daemon',
  async () => {
    vi.useFakeTimers();
    signIn(0);
    const { logins, launcher, join, call } = openLogins();
    join('r-first');
    launcher.fails = true;
    const called = call('r-first');
    await vi.advanceTimersByTimeAsync(100);
    await called;
    expect(logins.holds()).toBe(true);
    let left = false;
    const leave = (): void => {
      left = true;
    };
    using idle = watchIdle({ openRuns: () => 0, lingerMs: 60_000, holds: logins.holds, leave });
    idle.settle();
    await vi.advanceTimersByTimeAsync(200_000);
    expect(left).toBe(false);
    launcher.fails = false;
    const leaving = logins.leave('r-first' as RunId);
    await vi.advanceTimersByTimeAsync(100);
    await leaving;
    expect(held()).toBe('refresh-token-1');
    expect(logins.holds()).toBe(false);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(left).toBe(true);
  },
);

verifies(
  'login.kept',
  'a refresh token that comes with an access token over the limit is kept, with the old access token',
  async () => {
    vi.useFakeTimers();
    signIn(0);
    const { endpoint, clock, join, call } = openLogins();
    const values = join('r-first');
    const renewed = async (): Promise<void> => {
      clock.now += 2 * HOUR_MS;
      const called = call('r-first');
      await vi.advanceTimersByTimeAsync(100);
      await called;
    };
    endpoint.accessSize = 16_384;
    await renewed();
    expect(values['_login-claude']).toHaveLength(16_384);
    endpoint.accessSize = 16_385;
    await renewed();
    expect(endpoint.number).toBe(2);
    expect(held()).toBe('refresh-token-2');
    expect(readLogin(LOGIN, home)?.tokens.access).toMatch(/^access-token-1x+$/);
    endpoint.accessSize = 0;
    await renewed();
    expect(held()).toBe('refresh-token-3');
    expect(values['_login-claude']).toBe('access-token-3');
  },
);

verifies(
  'login.kept',
  'a login that is renewed for months is written with the last of what was spent',
  async () => {
    vi.useFakeTimers();
    signIn(0);
    const { clock, launcher, join, call } = openLogins();
    join('r-first');
    for (let i = 0; i < 70; i++) {
      clock.now += 2 * HOUR_MS;
      const called = call('r-first');
      await vi.advanceTimersByTimeAsync(10);
      await called;
    }
    expect(held()).toBe('refresh-token-70');
    expect(launcher.spent).toBe(64);
  },
);

verifies('login.renewed', 'what renews is at hand for as long as a renewal lasts', async () => {
  vi.useFakeTimers();
  signIn(0);
  const { logins, endpoint, join, call } = openLogins();
  endpoint.takes = 1_000;
  join('r-first');
  expect(logins.of('r-first' as RunId)).toBeUndefined();
  // What its launcher answers is heard all the same.
  expect(logins.has('r-first' as RunId)).toBe(true);
  const called = call('r-first');
  await vi.advanceTimersByTimeAsync(500);
  expect(logins.of('r-first' as RunId)?.vault).toBeDefined();
  await vi.advanceTimersByTimeAsync(1_000);
  await called;
  expect(held()).toBe('refresh-token-1');
  expect(logins.of('r-first' as RunId)).toBeUndefined();
});
