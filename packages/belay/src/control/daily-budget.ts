// The caps of the whole home: what all runs together may do in one UTC day. Folded from the ledger
// at start, so that a restart frees nothing.

import { type BudgetScope, budgetScope, type Caps } from '../budget/budgets.ts';
import type { Clock } from '../core/ids.ts';
import type { Ledger } from '../ledger/ledger.ts';

const DAY_MS = 86_400_000;

/** Gives the scope of the current day; a new day starts an empty one. */
export type DailyBudget = () => BudgetScope;

export async function dailyBudget(caps: Caps, ledger: Ledger, clock: Clock): Promise<DailyBudget> {
  const dayOf = (ts: number): number => Math.floor(ts / DAY_MS);
  let day = dayOf(clock());
  let scope = budgetScope('this home, today', caps);
  if (caps.calls !== undefined || caps.bytes !== undefined) {
    for await (const entry of ledger.read(0)) {
      if (dayOf(entry.ts) !== day) continue;
      // An intent whose outcome is unknown counts with what it had reserved.
      if (entry.type === 'intent') scope.settled.calls += 1;
      else if (entry.type === 'outcome')
        scope.settled.bytes += entry.sentBytes + entry.receivedBytes;
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
