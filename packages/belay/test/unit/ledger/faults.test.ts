import { execFile, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { openLedgerOn } from '../../../src/ledger/open.ts';
import { crashRounds } from '../../fault/ledger-crash.ts';
import type { FillResult } from '../../fault/ledger-fill.ts';
import { verifies } from '../../verifies.ts';
import { audit, freshDir, open, options, state } from './ledgers.ts';

const run = promisify(execFile);
const FILL = fileURLToPath(new URL('../../fault/ledger-fill.ts', import.meta.url));
const disk = (query: string): URL =>
  new URL(`../../fault/failing-disk.ts?${query}`, import.meta.url);

verifies(
  'log.no-lost-ack',
  'what was acknowledged before a SIGKILL is there afterwards, and the ledger verifies',
  async () => {
    const result = await crashRounds(10);
    expect(result).toMatchObject({ rounds: 10, lost: 0, unverified: 0 });
    expect(result.acknowledged).toBeGreaterThan(500);
    expect(result.unknown).toBeGreaterThan(0);
  },
  { timeoutMs: 120_000 },
);

for (const [query, reason] of [
  ['fail=sync&at=8', /EIO/],
  ['fail=write&at=8', /EIO/],
  ['fail=short&at=8', /short write/],
  ['fail=exit&at=8', /the writer ended on its own/],
] as const) {
  verifies(
    'log.fsync-fails-once',
    `after one failure (${query}) nothing is acknowledged again, and a restart is whole`,
    async () => {
      const dir = freshDir();
      const { ledger } = await openLedgerOn(options(dir), disk(query));
      const acked: number[] = [];
      let failed = false;
      for (let round = 0; round < 100 && !failed; round++) {
        const some = Array.from({ length: 3 }, (_, n) => ledger.append(state(n)));
        const results = await Promise.allSettled(some);
        for (const result of results) {
          if (result.status === 'fulfilled') acked.push(result.value.index);
          else expect(result.reason).toMatchObject({ code: 'ERR_LEDGER' });
        }
        failed = results.some((result) => result.status === 'rejected');
      }
      expect(failed).toBe(true);
      expect(ledger.health()).toEqual({ kind: 'failed', reason: expect.stringMatching(reason) });
      expect(ledger.size()).toBe(acked.length);
      for (let i = 0; i < 10; i++) {
        await expect(ledger.append(state(i))).rejects.toMatchObject({
          code: 'ERR_LEDGER',
          message: expect.stringMatching(reason),
        });
      }
      expect((await Array.fromAsync(ledger.read())).map((entry) => entry.index)).toEqual(acked);
      await ledger[Symbol.asyncDispose]();
      const again = await open(dir);
      expect(again.recovery.entries).toBeGreaterThanOrEqual(acked.length);
      await again.ledger.append(state(0));
      await again.ledger[Symbol.asyncDispose]();
      expect(await audit(dir)).toMatchObject({ ok: true });
    },
  );
}

const noStrace =
  spawnSync('strace', ['-qq', '-e', 'trace=none', 'true']).status !== 0 &&
  'strace is missing or may not trace here';

verifies(
  'log.fsync-fails-once',
  'a real fdatasync that fails once ends the ledger, and no thread syncs again',
  async () => {
    const dir = freshDir();
    const trace = path.join(dir, 'trace');
    const inject = ['-e', 'inject=fdatasync:error=EIO:when=30'];
    const args = ['-f', '-qq', '-o', trace, '-e', 'trace=fdatasync', ...inject];
    const { stdout } = await run('strace', [...args, process.execPath, FILL, dir, '5000'], {
      timeout: 30_000,
    });
    const result = JSON.parse(stdout) as FillResult;
    expect(result).toMatchObject({ takenLater: 0, health: 'failed' });
    expect(result.refusal?.message).toContain('EIO');
    expect(result.entries).toBe(result.acknowledged);
    const syncs = fs.readFileSync(trace, 'utf8').match(/fdatasync\(.*/g) ?? [];
    // The failed one is the last: what follows it could not be believed.
    expect(syncs.findIndex((line) => line.includes('INJECTED'))).toBe(syncs.length - 1);
    expect(syncs.length).toBeGreaterThanOrEqual(30);
  },
  { skip: noStrace, timeoutMs: 40_000 },
);

const mountArgs = ['--user', '--map-root-user', '--mount'];
const noMount =
  spawnSync('unshare', [...mountArgs, 'mount', '-t', 'tmpfs', 'none', '/mnt']).status !== 0 &&
  'a tmpfs cannot be mounted in a user namespace here';

verifies(
  'log.full-disk',
  'a full disk refuses with one clear message, keeps what it took, and goes on once there is room',
  async () => {
    const dir = freshDir();
    const script = [
      'mount -t tmpfs -o size=1m none "$1"',
      '"$2" "$3" "$1/ledger" 5000',
      'mount -o remount,size=2m none "$1"',
      '"$2" "$3" "$1/ledger" 100',
    ].join(' && ');
    const args = [...mountArgs, 'sh', '-c', script, 'sh', dir, process.execPath, FILL];
    const { stdout } = await run('unshare', args, { timeout: 30_000 });
    const [full, roomy] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)) as [FillResult, FillResult];
    expect(full).toMatchObject({ takenLater: 0, health: 'failed', ok: true });
    expect(full.refusal).toEqual({
      code: 'ERR_LEDGER',
      message: expect.stringMatching(
        /^the ledger has failed: the disk is full \(ENOSPC\) while preparing segment `\d{8}\.seg`$/,
      ),
      hint: expect.stringContaining('restart'),
    });
    expect(full.entries).toBe(full.acknowledged);
    expect(full.acknowledged).toBeGreaterThan(100);
    expect(roomy).toMatchObject({ acknowledged: 100, health: 'writing', ok: true });
  },
  { skip: noMount, timeoutMs: 40_000 },
);
