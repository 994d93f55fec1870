import { expect } from 'vitest';
import { dailyBudget } from '../../../src/control/daily-budget.ts';
import { verifies } from '../../verifies.ts';
import { freshDir, intent, newCall, newRun, open, outcome } from '../ledger/ledgers.ts';

const MIB = 1 << 20;
const DAY_MS = 86_400_000;

verifies(
  'budget.never-over',
  'a crash frees nothing that can have passed: what is unknown counts with all that was reserved',
  async () => {
    const dir = freshDir();
    let now = 20_000 * DAY_MS - 1;
    const clock = (): number => now;
    const run = newRun();
    const reserving = (bytes: number) => {
      const call = newCall();
      return { call, entry: { ...intent(run, call), reserved: { calls: 1, bytes } } };
    };
    const first = await open(dir, { clock });
    const write = first.ledger;
    const yesterday = reserving(5 * MIB);
    await write.append(yesterday.entry);
    now += 1;
    const [ended, extended, plain] = [reserving(MIB), reserving(MIB), reserving(MIB)];
    for (const { entry } of [ended, extended, plain]) await write.append(entry);
    const more = { type: 'intent.extended' as const, run };
    await write.append({ ...more, call: ended.call, bytes: 2 * MIB });
    await write.append({ ...more, call: extended.call, bytes: 2 * MIB });
    await write.append({ ...more, call: extended.call, bytes: 4 * MIB });
    await write.append(outcome(run, ended.call));
    // Three calls are open when the daemon dies.
    await write[Symbol.asyncDispose]();
    const { ledger, recovery } = await open(dir, { clock });
    expect(recovery.unknown).toBe(3);
    const budget = await dailyBudget({ bytes: 100 * MIB }, ledger, clock);
    expect(budget().settled).toEqual({ calls: 3, bytes: 1100 + 4 * MIB + MIB });
    now += DAY_MS;
    expect(budget().settled).toEqual({ calls: 0, bytes: 0 });
    await ledger[Symbol.asyncDispose]();
  },
);
