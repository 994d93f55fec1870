// The control API on the daemon's unix socket. Routes parse, call the daemon, and answer; they
// decide nothing. Streams are lines of JSON and end with their cause.

import { Hono } from 'hono';
import { stream } from 'hono/streaming';
import type { Entry } from '../core/entry.ts';
import { BelayError, type ErrorCode, reasonOf } from '../core/errors.ts';
import { isRunId, type RunId } from '../core/ids.ts';
import {
  type CloseRun,
  closeRun,
  type DaemonStatus,
  importRoots,
  killRuns,
  type LoginAnswer,
  type LostMasks,
  loginAnswer,
  lostMasks,
  type OpenRun,
  openRun,
  type RunNotice,
  type RunSummary,
  removeRoot,
  type StandingRun,
  standingRun,
} from './protocol.ts';
import type { Roots } from './roots.ts';

export interface DaemonOperations {
  status(): DaemonStatus;
  open(request: OpenRun, notify: (notice: RunNotice) => void): Promise<RunId>;
  guarded(run: RunId, standing: StandingRun): Promise<void>;
  lostMasks(run: RunId, masks: LostMasks): Promise<void>;
  login(run: RunId, answer: LoginAnswer): void;
  close(run: RunId, how: CloseRun): Promise<RunSummary>;
  kill(
    which: { run?: RunId | undefined; all?: boolean | undefined },
    reason: string,
    /** Of the stop; default `operator`. */
    cause?: string,
  ): Promise<readonly RunId[]>;
  readonly roots: Roots;
  /** Entries from an index on, then, if asked, new ones as they become durable. */
  entries(from: number, follow: boolean, signal: AbortSignal): AsyncIterable<Entry>;
  shutDown(reason: string): void;
}

const STATUS_OF: Partial<Record<ErrorCode, 404 | 409 | 503>> = {
  ERR_NOT_FOUND: 404,
  ERR_LOCKED: 409,
  ERR_LEDGER: 503,
  ERR_GUARD: 503,
};

export function createApi(daemon: DaemonOperations): Hono {
  const api = new Hono();

  api.onError((error, c) => {
    const known = error instanceof BelayError;
    const code: ErrorCode = known ? error.code : 'ERR_PROTOCOL';
    const body = {
      code,
      message: reasonOf(error),
      ...(known && error.hint ? { hint: error.hint } : {}),
    };
    return c.json({ error: body }, STATUS_OF[code] ?? 400);
  });
  api.notFound((c) => c.json({ error: { code: 'ERR_PROTOCOL', message: 'no such route' } }, 404));

  api.get('/v1/status', (c) => c.json(daemon.status()));

  api.post('/v1/runs', async (c) => {
    const request = openRun.parse(await c.req.json());
    const queue: RunNotice[] = [];
    let wake = (): void => {};
    const run = await daemon.open(request, (notice) => {
      queue.push(notice);
      wake();
    });
    c.header('content-type', 'application/x-ndjson');
    return stream(c, async (lines) => {
      let open = true;
      lines.onAbort(() => {
        open = false;
        wake();
      });
      while (open) {
        const notice = queue.shift();
        if (notice !== undefined) await lines.write(`${JSON.stringify(notice)}\n`);
        else await new Promise<void>((resolve) => (wake = resolve));
      }
      // The launcher has gone. A run that it closed is closed already.
      await daemon.close(run, { reason: 'the launcher went away' }).catch(() => {});
    });
  });

  const named = (text: string): RunId => {
    if (isRunId(text)) return text;
    throw new BelayError('ERR_NOT_FOUND', `no run \`${text}\``);
  };
  api.post('/v1/runs/:run/guarded', async (c) => {
    await daemon.guarded(named(c.req.param('run')), standingRun.parse(await c.req.json()));
    return c.json({});
  });
  api.post('/v1/runs/:run/masks', async (c) => {
    await daemon.lostMasks(named(c.req.param('run')), lostMasks.parse(await c.req.json()));
    return c.json({});
  });
  api.post('/v1/runs/:run/login', async (c) => {
    daemon.login(named(c.req.param('run')), loginAnswer.parse(await c.req.json()));
    return c.json({});
  });
  api.post('/v1/runs/:run/close', async (c) =>
    c.json(await daemon.close(named(c.req.param('run')), closeRun.parse(await c.req.json()))),
  );
  api.post('/v1/kill', async (c) => {
    const { run, all, reason } = killRuns.parse(await c.req.json());
    return c.json({ killed: await daemon.kill({ run, all }, reason) });
  });

  api.get('/v1/roots', (c) => c.json({ roots: daemon.roots.list() }));
  api.post('/v1/roots', async (c) => {
    const { pem } = importRoots.parse(await c.req.json());
    return c.json({ roots: await daemon.roots.add(pem) });
  });
  api.post('/v1/roots/remove', async (c) => {
    const { fingerprint } = removeRoot.parse(await c.req.json());
    return c.json(await daemon.roots.remove(fingerprint));
  });

  api.get('/v1/entries', (c) => {
    const from = Number(c.req.query('from') ?? 0);
    const abort = new AbortController();
    c.header('content-type', 'application/x-ndjson');
    return stream(c, async (lines) => {
      lines.onAbort(() => abort.abort());
      const follow = c.req.query('follow') === '1';
      for await (const entry of daemon.entries(from, follow, abort.signal)) {
        await lines.write(`${JSON.stringify(entry)}\n`);
      }
    });
  });

  api.post('/v1/down', (c) => {
    daemon.shutDown('asked by the operator');
    return c.json({});
  });
  return api;
}
