// The caps of the whole home: what all runs together may do in one UTC day. Folded from the ledger
// at start, so that neither a restart nor a crash frees anything. A call counts on the day on which
// it began.

import { type BudgetScope, budgetScope, type Caps } from '../budget/budgets.ts';
import type { CallId, Clock } from '../core/ids.ts';
import type { Ledger } from '../ledger/ledger.ts';

const DAY_MS = 86_400_000;

/** Gives the scope of the current day; a new day starts an empty one. */
export type DailyBudget = () => BudgetScope;

export async function dailyBudget(caps: Caps, ledger: Ledger, clock: Clock): Promise<DailyBudget> {
  const dayOf = (ts: number): number => Math.floor(ts / DAY_MS);
  let day = dayOf(clock());
  let scope = budgetScope('this home, today', caps);
  if (caps.calls !== undefined || caps.bytes !== undefined) {
    /** Of the calls of this day that are open at this place of the ledger. */
    const reservedBytes = new Map<CallId, number>();
    for await (const entry of ledger.read(0)) {
      switch (entry.type) {
        case 'intent':
          if (dayOf(entry.ts) !== day) break;
          scope.settled.calls += 1;
          reservedBytes.set(entry.call, entry.reserved.bytes);
          break;
        case 'intent.extended':
          if (reservedBytes.has(entry.call)) reservedBytes.set(entry.call, entry.bytes);
          break;
        case 'outcome':
          if (!reservedBytes.delete(entry.call)) break;
          scope.settled.bytes += entry.sentBytes + entry.receivedBytes;
          break;
        case 'outcome.unknown':
          // INVARIANT: I3: all of it may have passed.
          scope.settled.bytes += reservedBytes.get(entry.call) ?? 0;
          reservedBytes.delete(entry.call);
          break;
      }
    }
  }
  return () => {
    const today = dayOf(clock());
    if (today !== day) {
      day = today;
      scope = budgetScope('this home, today', caps);
    }
    return scope;
  };
}
