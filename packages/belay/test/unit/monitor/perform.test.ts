import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect } from 'vitest';
import { budgetScope } from '../../../src/budget/budgets.ts';
import type { ByteSink, Call, Mode, Response, Result } from '../../../src/core/call.ts';
import type { Entry } from '../../../src/core/entry.ts';
import { type CallId, newRunId, type Random, type RunId } from '../../../src/core/ids.ts';
import { type Host, parseHost } from '../../../src/core/target.ts';
import { createRuns, type Grant } from '../../../src/identity/runs.ts';
import type { Ledger } from '../../../src/ledger/ledger.ts';
import { openLedger } from '../../../src/ledger/open.ts';
import { createDenials, newDenials } from '../../../src/monitor/denials.ts';
import type { MonitoredRun } from '../../../src/monitor/facts.ts';
import { type Carry, createMonitor } from '../../../src/monitor/perform.ts';
import { createStops } from '../../../src/stop/stops.ts';
import { createVault } from '../../../src/vault/vault.ts';
import { verifies } from '../../verifies.ts';

const random: Random = (size) => randomBytes(size);
let dir: string;
let ledger: Ledger & AsyncDisposable;
let now = 1_700_000_000_000;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'belay-perform-'));
  ({ ledger } = await openLedger({ dir, clock: () => now, random }));
});
afterEach(async () => {
  await ledger[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

interface Setting {
  readonly grant?: Partial<Grant>;
  readonly caps?: { calls?: number; bytes?: number; denials?: number };
  readonly effect?: 'read' | 'write' | 'irreversible';
  readonly verdict?: 'permit' | 'deny' | 'hold';
  readonly guarded?: boolean;
  readonly carry?: Carry;
  readonly ledger?: Ledger;
  readonly paths?: readonly string[];
}

function answer(chunks: readonly string[], status = 200): Response {
  const flow = (sink: ByteSink) => {
    queueMicrotask(() => {
      for (const chunk of chunks) sink.write(Buffer.from(chunk));
      sink.end();
    });
    return { resume() {}, abort() {} };
  };
  return { kind: 'response', status, headers: [], body: { flow } };
}

function build(setting: Setting = {}) {
  const runs = createRuns<MonitoredRun>(() => now);
  const stops = createStops();
  const sent: Call[] = [];
  const id: RunId = newRunId(random);
  const denied: string[] = [];
  const budget = budgetScope(id, setting.caps ?? {});
  const grant: Grant = {
    agent: 'a',
    environment: 'dev',
    mode: 'live',
    state: 'active',
    ...setting.grant,
  };
  const vault = createVault(
    [
      {
        value: 'the-real-key',
        spec: {
          name: 'key',
          environment: 'dev',
          host: parseHost('api.example'),
          port: 443,
          methods: ['GET', 'POST'],
          allowsPath: (path) => (setting.paths ?? ['/v1']).includes(path),
          place: { kind: 'header', name: 'x-api-key', format: 'Bearer {}' },
          variable: 'KEY',
        },
      },
    ],
    (name) => `blp-${name}`,
  );
  runs.add({
    id,
    grant,
    guarded: setting.guarded ?? true,
    scopes: [{ kind: 'global' }, { kind: 'run', name: id }],
    budgets: [budget],
    vault,
    tally: { denied: (_head, denial) => void denied.push(denial.code), settled() {} },
    denials: newDenials(setting.caps?.denials ?? 100_000, 100_000),
    judge: {
      classify: () => ({ effect: setting.effect ?? 'read', kind: 'http', reasons: ['test'] }),
      decide: () => {
        if (setting.verdict === 'hold')
          return { kind: 'hold', approval: 'deploy', policies: ['p'] };
        if (setting.verdict === 'deny') {
          const told = { status: 403, message: 'no' };
          return {
            kind: 'deny',
            step: 'decide',
            code: 'policy.no-permit',
            reason: 'r',
            told,
            policies: [],
          };
        }
        return { kind: 'permit', policies: ['p'] };
      },
      permitted() {},
    },
  });
  const live: Carry = async (call, run, stopped) => {
    sent.push(call);
    return setting.carry === undefined ? answer(['hello']) : setting.carry(call, run, stopped);
  };
  const exhausted: string[] = [];
  const denials = createDenials({
    runs,
    ledger: setting.ledger ?? ledger,
    onExhausted(run, reason) {
      stops.set({ kind: 'run', name: run }, 'denials', 'killed', reason);
      exhausted.push(reason);
    },
    onStorm(_run, reason) {
      exhausted.push(reason);
    },
    clock: () => 0,
  });
  const monitor = createMonitor({
    runs,
    stops,
    ledger: setting.ledger ?? ledger,
    denials,
    carry: { live },
    observe() {},
    clock: () => now,
  });
  return { monitor, stops, sent, id, budget, denied, vault, denials, exhausted };
}

let calls = 0;
function call(run: RunId, change: Partial<Call> = {}): Call {
  return {
    id: `c-${calls++}` as CallId,
    run,
    kind: 'http',
    target: { scheme: 'https', host: parseHost('api.example'), port: 443 },
    method: 'GET',
    path: '/v1',
    query: 'secret=1&a=2',
    headers: [['x-api-key', 'placeholder']],
    body: { kind: 'none' },
    signal: new AbortController().signal,
    ...change,
  };
}

/** Takes the whole body; the reason when it broke. */
async function drain(result: Result): Promise<string> {
  if (result.kind === 'denied') return `denied ${result.denial.code}`;
  return new Promise((resolve) => {
    let text = '';
    result.body.flow({
      write: (chunk) => {
        text += Buffer.from(chunk).toString();
        return true;
      },
      end: () => resolve(text),
      fail: (error) => resolve(`${text} broke: ${error.code}`),
    });
  });
}

async function entries(): Promise<readonly Entry[]> {
  // Whatever was appended before this one is durable when it is.
  await ledger.append({ type: 'daemon.stop', detail: {} });
  return (await Array.fromAsync(ledger.read(0))).filter(({ type }) => type !== 'daemon.stop');
}

verifies(
  'monitor.steps',
  'a permitted call leaves an intent, then an outcome with both digests',
  async () => {
    const { monitor, id, sent, budget } = build();
    expect(await drain(await monitor.perform(call(id)))).toBe('hello');
    expect(sent).toHaveLength(1);
    const [intent, outcome] = await entries();
    expect(intent).toMatchObject({
      type: 'intent',
      seq: 1,
      effect: 'read',
      queryKeys: ['a', 'secret'],
    });
    expect(outcome).toMatchObject({ type: 'outcome', seq: 2, status: 200, receivedBytes: 5 });
    expect(budget.settled).toEqual({ calls: 1, bytes: 5 });
    expect(budget.reserved).toEqual({ calls: 0, bytes: 0 });
  },
);

verifies(
  'log.before-effect',
  'the intent is readable on the disk when the call is sent',
  async () => {
    let atSend: readonly Entry[] = [];
    const { monitor, id } = build({
      carry: async () => {
        atSend = await Array.fromAsync(ledger.read(0));
        return answer([]);
      },
    });
    await drain(await monitor.perform(call(id)));
    expect(atSend.map(({ type }) => type)).toEqual(['intent']);
  },
);

verifies(
  'log.overload',
  'of thousands of calls in one turn each has its intent and outcome, or its denial',
  async () => {
    const { monitor, id, denied } = build({ caps: { calls: 6000 } });
    const path = `/${'x'.repeat(500)}`;
    const results = await Promise.all(
      Array.from({ length: 8000 }, async () => drain(await monitor.perform(call(id, { path })))),
    );
    const count = (text: string): number => results.filter((result) => result === text).length;
    expect(count('hello')).toBeGreaterThan(1000);
    expect(count('denied ledger.failed')).toBeGreaterThan(1000);
    expect(count('denied budget.calls')).toBe(2000);
    const all = (await entries()).map(({ type }) => type);
    const typed = (type: string): number => all.filter((one) => one === type).length;
    expect([typed('intent'), typed('outcome')]).toEqual([count('hello'), count('hello')]);
    expect(typed('denial')).toBe(8000 - count('hello'));
    expect(denied).toHaveLength(typed('denial'));
    expect(ledger.health()).toEqual({ kind: 'writing' });
  },
);

verifies(
  'monitor.stop-again',
  'a stop that lands while the intent is written keeps the call here',
  async () => {
    const held = Promise.withResolvers<void>();
    const slow: Ledger = {
      ...{
        health: () => ledger.health(),
        size: () => ledger.size(),
        read: (from) => ledger.read(from),
      },
      append: async (body) => {
        if (body.type === 'intent') await held.promise;
        return ledger.append(body);
      },
    };
    const { monitor, id, sent, stops } = build({ ledger: slow });
    const result = monitor.perform(call(id));
    stops.set({ kind: 'run', name: id }, 'operator', 'killed', 'test');
    held.resolve();
    expect(await drain(await result)).toBe('denied stopped');
    expect(sent).toHaveLength(0);
    const last = (await entries()).at(-1);
    expect(last).toMatchObject({ type: 'outcome', error: { code: 'stopped' }, sentBytes: 0 });
  },
);

verifies(
  'log.before-effect',
  'the last byte of an irreversible call is released only when its outcome is durable',
  async () => {
    for (const effect of ['irreversible', 'write'] as const) {
      const held = Promise.withResolvers<void>();
      const slow: Ledger = {
        health: () => ledger.health(),
        size: () => ledger.size(),
        read: (from) => ledger.read(from),
        append: async (body, when) => {
          if (body.type === 'outcome') await held.promise;
          return ledger.append(body, when);
        },
      };
      const { monitor, id } = build({ ledger: slow, effect });
      const drained = drain(await monitor.perform(call(id)));
      const early = await Promise.race([drained, setTimeout(60, 'held')]);
      expect(early).toBe(effect === 'irreversible' ? 'held' : 'hello');
      held.resolve();
      expect(await drained).toBe('hello');
    }
  },
);

verifies(
  'monitor.stop-again',
  'a stop that lands while the call waits to be sent is told to who would send it, and in the outcome',
  async () => {
    const waits = Promise.withResolvers<void>();
    const heard: (string | undefined)[] = [];
    const { monitor, id, stops, sent } = build({
      async carry(_call, _run, stopped) {
        heard.push(stopped()?.message);
        await waits.promise;
        const reason = stopped()?.message ?? 'nothing stopped it';
        heard.push(reason);
        return { kind: 'failed', code: 'stopped', reason };
      },
    });
    const result = monitor.perform(call(id));
    while (sent.length === 0) await setTimeout(1);
    stops.set({ kind: 'run', name: id }, 'operator', 'quarantined', 'test');
    waits.resolve();
    const denied = await result;
    expect(heard).toEqual([undefined, 'quarantined: test']);
    expect(denied).toMatchObject({
      denial: { code: 'stopped', told: { status: 403, message: 'this run has been stopped' } },
    });
    expect((await entries()).at(-1)).toMatchObject({
      type: 'outcome',
      error: { code: 'stopped', reason: 'quarantined: test' },
    });
  },
);

verifies('monitor.stop-again', 'a stop in the middle of a body breaks it off', async () => {
  let sink: ByteSink | undefined;
  let aborted = 0;
  const { monitor, id, stops } = build({
    carry: async () => ({
      kind: 'response',
      status: 200,
      headers: [],
      body: {
        flow: (given) => {
          sink = given;
          return { resume() {}, abort: () => void aborted++ };
        },
      },
    }),
  });
  const text = drain(await monitor.perform(call(id)));
  sink?.write(Buffer.from('one'));
  stops.set({ kind: 'global' }, 'operator', 'killed', 'test');
  sink?.write(Buffer.from('two'));
  expect(await text).toBe('one broke: ERR_STOPPED');
  expect(aborted).toBe(1);
  expect((await entries()).at(-1)).toMatchObject({
    receivedBytes: 3,
    error: { code: 'ERR_STOPPED' },
  });
});

verifies(
  'monitor.default-deny',
  'what policy denies is denied and recorded with what was told',
  async () => {
    const { monitor, id, sent } = build({ verdict: 'deny' });
    expect(await drain(await monitor.perform(call(id)))).toBe('denied policy.no-permit');
    expect(sent).toHaveLength(0);
    expect(await entries()).toMatchObject([
      {
        type: 'denial',
        code: 'policy.no-permit',
        step: 'decide',
        told: { status: 403, message: 'no' },
      },
    ]);
  },
);

verifies(
  ['log.denials', 'policy.hold'],
  'a held call is denied until approvals exist',
  async () => {
    const { monitor, id, denied } = build({ verdict: 'hold' });
    expect(await drain(await monitor.perform(call(id)))).toBe('denied approval.required');
    expect((await entries())[0]).toMatchObject({ reason: expect.stringContaining('`deploy`') });
    expect(denied).toEqual(['approval.required']);
  },
);

verifies('shadow.writes-refused', 'in shadow mode a read leaves and a write does not', async () => {
  const shadow = { grant: { mode: 'shadow' as Mode } };
  const reading = build({ ...shadow, effect: 'read' });
  expect(await drain(await reading.monitor.perform(call(reading.id)))).toBe('hello');
  const writing = build({ ...shadow, effect: 'write' });
  const result = await writing.monitor.perform(call(writing.id, { method: 'POST' }));
  expect(result).toMatchObject({ denial: { code: 'shadow.write', told: { status: 403 } } });
  expect(result.kind === 'denied' && result.denial.told.message).toContain(writing.id);
  expect(writing.sent).toHaveLength(0);
});

verifies(
  'identity.grant-expiry',
  'a grant that expires between two calls permits only the first',
  async () => {
    const { monitor, id, sent } = build({ grant: { expiresAt: now + 10 } });
    expect(await drain(await monitor.perform(call(id)))).toBe('hello');
    now += 10;
    expect(await drain(await monitor.perform(call(id)))).toBe('denied grant.expired');
    expect(sent).toHaveLength(1);

    const paused = build({ grant: { expiresAt: now + 10 } });
    const scope = { kind: 'run', name: paused.id } as const;
    paused.stops.set(scope, 'test', 'paused', 'wait');
    const waiting = paused.monitor.perform(call(paused.id));
    now += 10;
    paused.stops.lift(scope, 'test');
    expect(await drain(await waiting)).toBe('denied grant.expired');
  },
);

verifies('identity.under-review', 'a grant under review permits nothing live', async () => {
  const { monitor, id } = build({ grant: { state: 'under review' } });
  expect(await drain(await monitor.perform(call(id)))).toBe('denied grant.under-review');
});

verifies(
  'monitor.steps',
  'an unknown run and an unguarded run are denied and recorded',
  async () => {
    const { monitor } = build();
    expect(await drain(await monitor.perform(call('r-unknown' as RunId)))).toBe(
      'denied run.unknown',
    );
    const unguarded = build({ guarded: false });
    expect(await drain(await unguarded.monitor.perform(call(unguarded.id)))).toBe(
      'denied guard.lost',
    );
    expect((await entries()).map((entry) => entry.type)).toEqual(['denial', 'denial']);
  },
);

verifies(
  'budget.calls',
  'the call over the cap is denied, and concurrent calls cannot pass it',
  async () => {
    const { monitor, id, sent } = build({ caps: { calls: 3 } });
    const results = await Promise.all(
      Array.from({ length: 8 }, async () => drain(await monitor.perform(call(id)))),
    );
    expect(results.filter((text) => text === 'hello')).toHaveLength(3);
    expect(results.filter((text) => text === 'denied budget.calls')).toHaveLength(5);
    expect(sent).toHaveLength(3);
  },
);

verifies(
  'budget.denials',
  'the attempt beyond the cap stops the run, of whatever kind, and nothing more is written',
  async () => {
    const { monitor, id, sent, denied, denials, exhausted } = build({
      caps: { denials: 6 },
      verdict: 'deny',
    });
    const below = () =>
      denials.record({ type: 'net.denial', run: id, host: 'x', port: 1, reason: 'closed' });
    const told: (readonly [boolean, string])[] = [];
    for (let i = 0; i < 10; i++) {
      told.push([(await below()).written, await drain(await monitor.perform(call(id)))]);
    }
    expect(told.map(([written]) => written)).toEqual([
      ...Array(3).fill(true),
      ...Array(7).fill(false),
    ]);
    expect(told.map(([, answer]) => answer)).toEqual([
      ...Array(3).fill('denied policy.no-permit'),
      ...Array(7).fill('denied stopped'),
    ]);
    expect(sent).toHaveLength(0);
    expect(denied).toHaveLength(3);
    expect(exhausted).toEqual(['refused more than 6 times, its cap of denials']);
    const types = (await entries()).map(({ type }) => type);
    expect(types.toSorted()).toEqual([...Array(3).fill('denial'), ...Array(3).fill('net.denial')]);
  },
);

verifies(
  ['budget.denials', 'log.denials'],
  'no text that an agent can choose makes the entry of its denial long, or keeps it from being written',
  async () => {
    const { monitor, id, denials } = build({ verdict: 'deny' });
    // A pair of surrogates that a cut at any length would part, and characters that JSON escapes.
    const keys = Array.from(
      { length: 40 },
      (_, i) => `${'%01'.repeat(i)}${'%F0%9F%98%80'.repeat(40)}`,
    );
    const query = `${keys.join('=&')}=`;
    const long: Partial<Call> = { path: `/${'x'.repeat(15_000)}`, query };
    expect(await drain(await monitor.perform(call(id, long)))).toBe('denied policy.no-permit');
    await denials.record({
      ...{ type: 'net.denial', run: id, port: 1 },
      ...{ host: 'h'.repeat(9000), reason: '\u0001'.repeat(9000) },
    });
    const [denial, below] = await entries();
    expect(denial).toMatchObject({ type: 'denial', path: `/${'x'.repeat(498)}…` });
    expect(JSON.stringify(denial).length).toBeLessThan(4_000);
    expect((denial as { queryKeys: readonly string[] }).queryKeys.at(-1)).toBe('…');
    expect(below).toMatchObject({ type: 'net.denial', host: `${'h'.repeat(499)}…` });
    expect(JSON.stringify(below).length).toBeLessThan(5_000);
  },
);

verifies('budget.bytes', 'a stream stops at the cap and nothing above it passes', async () => {
  const { monitor, id, budget } = build({
    caps: { bytes: 10 },
    carry: async () => answer(['aaaaa', 'bbbbb', 'x']),
  });
  expect(await drain(await monitor.perform(call(id)))).toBe('aaaaabbbbb broke: ERR_ABORTED');
  expect(budget.settled.bytes).toBe(10);
});

verifies('budget.bytes', 'a streamed request body is counted before it passes', async () => {
  const seen: number[] = [];
  const { monitor, id } = build({
    caps: { bytes: 8 },
    carry: async ({ body }) => {
      if (body.kind !== 'streamed') throw new Error('not streamed');
      try {
        for await (const chunk of body.source) seen.push(chunk.length);
      } catch {
        return { kind: 'failed', code: 'upstream.broken', reason: 'the body broke off' };
      }
      return answer([]);
    },
  });
  async function* source() {
    yield Buffer.alloc(8);
    yield Buffer.alloc(1);
  }
  const result = monitor.perform(call(id, { body: { kind: 'streamed', source: source() } }));
  expect(await drain(await result)).toBe('denied upstream.broken');
  expect(seen).toEqual([8]);
  expect((await entries()).at(-1)).toMatchObject({ type: 'outcome', sentBytes: 8 });
});

const MIB = 1 << 20;

/** A response of so many pieces, which waits when it is told to. */
function pieces(count: number, sizeBytes: number): Response {
  const flow = (sink: ByteSink) => {
    let left = count;
    const pump = (): void => {
      while (left > 0) {
        left -= 1;
        if (!sink.write(Buffer.alloc(sizeBytes, left))) return;
      }
      sink.end();
    };
    queueMicrotask(pump);
    return { resume: pump, abort() {} };
  };
  return { kind: 'response', status: 200, headers: [], body: { flow } };
}

async function* uploaded(count: number, sizeBytes: number) {
  for (let i = 0; i < count; i++) yield Buffer.alloc(sizeBytes, i);
}

verifies(
  'budget.never-over',
  'no byte of a stream passes, either way, before what is reserved for it is on the disk',
  async () => {
    const passed: { readonly bytes: number; readonly durable: number }[] = [];
    let bytes = 0;
    const pass = (chunk: Uint8Array): void => {
      bytes += chunk.length;
      passed.push({ bytes, durable: ledger.size() });
    };
    const { monitor, id, budget } = build({
      caps: { bytes: 100 * MIB },
      carry: async ({ body }) => {
        if (body.kind !== 'streamed') throw new Error('not streamed');
        for await (const chunk of body.source) pass(chunk);
        return pieces(40, MIB / 2);
      },
    });
    const body = { kind: 'streamed' as const, source: uploaded(12, 300_000) };
    const result = await monitor.perform(call(id, { body }));
    if (result.kind === 'denied') throw new Error(result.denial.reason);
    await new Promise<void>((resolve, reject) => {
      const flow = result.body.flow({
        write(chunk) {
          pass(chunk);
          // Now and then the client is slow.
          if (bytes % 3 !== 0) return true;
          setImmediate(() => flow.resume());
          return false;
        },
        end: () => resolve(),
        fail: reject,
      });
    });
    expect(bytes).toBe(12 * 300_000 + 20 * MIB);
    const all = await entries();
    const reserved = all.map((entry) => {
      if (entry.type === 'intent') return entry.reserved.bytes;
      return entry.type === 'intent.extended' ? entry.bytes : 0;
    });
    for (const { bytes, durable } of passed) {
      expect(Math.max(...reserved.slice(0, durable))).toBeGreaterThanOrEqual(bytes);
    }
    expect(all.at(-1)).toMatchObject({
      ...{ type: 'outcome', sentBytes: 12 * 300_000, receivedBytes: 20 * MIB },
    });
    expect(budget).toMatchObject({ settled: { bytes }, reserved: { bytes: 0 } });
  },
);

verifies(
  ['budget.never-over', 'log.verify'],
  'what an agent goes on sending after its call is over passes no more, and takes nothing from a cap',
  async () => {
    const over = Promise.withResolvers<void>();
    let sending: Promise<string> | undefined;
    const { monitor, id, budget } = build({
      carry: async ({ body }) => {
        if (body.kind !== 'streamed') throw new Error('not streamed');
        const { source } = body;
        const send = async (): Promise<void> => {
          for await (const _chunk of source) await over.promise;
        };
        sending = send().then(
          () => 'sent',
          (error) => error.code,
        );
        return answer(['early']);
      },
    });
    const body = { kind: 'streamed' as const, source: uploaded(5, MIB / 2) };
    expect(await drain(await monitor.perform(call(id, { body })))).toBe('early');
    over.resolve();
    expect(await sending).toBe('ERR_ABORTED');
    expect(budget.reserved).toEqual({ calls: 0, bytes: 0 });
    expect((await entries()).map(({ type }) => type)).toEqual(['intent', 'outcome']);
  },
);

verifies(
  ['monitor.stop-again', 'budget.never-over'],
  'a stop that lands while a slice is written, or a disk that fails then, keeps its bytes here',
  async () => {
    for (const ending of ['stop', 'disk'] as const) {
      const asked = Promise.withResolvers<void>();
      const held = Promise.withResolvers<void>();
      const slow: Ledger = {
        health: () => ledger.health(),
        size: () => ledger.size(),
        read: (from) => ledger.read(from),
        append: async (body, when) => {
          if (body.type === 'intent.extended') {
            asked.resolve();
            await held.promise;
          }
          return ledger.append(body, when);
        },
      };
      const { monitor, id, stops } = build({ ledger: slow, carry: async () => pieces(9, MIB / 2) });
      const text = drain(await monitor.perform(call(id)));
      await asked.promise;
      if (ending === 'stop') {
        stops.set({ kind: 'run', name: id }, 'operator', 'killed', 'test');
        held.resolve();
      } else {
        held.reject(new Error('the disk'));
      }
      const broke = ending === 'stop' ? 'ERR_STOPPED' : 'ERR_LEDGER';
      const got = await text;
      expect([got.length - ` broke: ${broke}`.length, got.endsWith(broke)]).toEqual([MIB, true]);
      const last = (await entries()).at(-1);
      expect(last).toMatchObject({ type: 'outcome', receivedBytes: MIB, error: { code: broke } });
    }
  },
);

verifies(
  ['vault.injected', 'log.no-secrets'],
  'the key is put in where it is bound, and is in no entry',
  async () => {
    const { monitor, id, sent, vault } = build();
    expect(vault.placeholders().KEY).toBe('blp-key');
    await drain(await monitor.perform(call(id)));
    expect(sent[0]?.headers).toEqual([
      ['accept-encoding', 'identity'],
      ['x-api-key', 'Bearer the-real-key'],
    ]);
    const all = await entries();
    expect(all[0]).toMatchObject({ credentials: ['key'] });
    expect(JSON.stringify(all)).not.toContain('the-real-key');
  },
);

verifies(
  'vault.cross-host',
  'no other host, port, path, method, environment or scheme gets the key',
  async () => {
    const target = { scheme: 'https' as const, host: parseHost('api.example'), port: 443 };
    const strays: readonly Partial<Call>[] = [
      { target: { ...target, host: 'evil.example' as Host } },
      { target: { ...target, scheme: 'http' } },
      { target: { ...target, port: 8443 } },
      { path: '/v2' },
      { method: 'DELETE' },
    ];
    const { monitor, id, sent } = build();
    for (const stray of strays) await drain(await monitor.perform(call(id, stray)));
    const other = build({ grant: { environment: 'production' } });
    await drain(await other.monitor.perform(call(other.id)));
    for (const { headers } of [...sent, ...other.sent]) {
      const others = headers.filter(([name]) => name !== 'accept-encoding');
      expect(others).toEqual([['x-api-key', 'placeholder']]);
    }
    expect(sent).toHaveLength(strays.length);
  },
);

verifies(
  'log.fsync-fails-once',
  'a ledger that has failed denies every call with 503',
  async () => {
    const broken: Ledger = {
      append: async () => {
        throw new Error('disk full');
      },
      health: () => ({ kind: 'failed', reason: 'disk full' }),
      read: (from) => ledger.read(from),
      size: () => 0,
    };
    const { monitor, id, sent, budget } = build({ ledger: broken });
    const result = await monitor.perform(call(id));
    expect(result).toMatchObject({ denial: { code: 'ledger.failed', told: { status: 503 } } });
    expect(sent).toHaveLength(0);
    expect(budget.reserved).toEqual({ calls: 0, bytes: 0 });
  },
);

verifies(
  'gw.abort-during-commit',
  'a client that left while the intent was written sends nothing',
  async () => {
    const abort = new AbortController();
    const { monitor, id, sent } = build();
    const result = monitor.perform(call(id, { signal: abort.signal }));
    abort.abort();
    expect(await drain(await result)).toBe('denied upstream.broken');
    expect(sent).toHaveLength(0);
  },
);
