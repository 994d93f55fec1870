import fc from 'fast-check';
import { expect } from 'vitest';
import { budgetScope, type Reservation, reserve } from '../../../src/budget/budgets.ts';
import { verifies } from '../../verifies.ts';

verifies('budget.never-over', 'no interleaving of calls, slices and ends passes a cap', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('reserve' as const), bytes: fc.nat(3_000_000) }),
    fc.record({ do: fc.constant('extend' as const), at: fc.nat(20), bytes: fc.nat(3_000_000) }),
    fc.record({
      do: fc.constant('settle' as const),
      at: fc.nat(20),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
    fc.record({ do: fc.constant('release' as const), at: fc.nat(20) }),
  );
  fc.assert(
    fc.property(
      fc.nat(8),
      fc.nat(9_000_000),
      fc.array(step, { maxLength: 60 }),
      (calls, bytes, steps) => {
        const scopes = [
          budgetScope('run', { calls, bytes }),
          budgetScope('all', { calls: 6, bytes: 7_000_000 }),
        ];
        const open: Reservation[] = [];
        for (const what of steps) {
          if (what.do === 'reserve') {
            const got = reserve(scopes, what.bytes);
            if (got.kind === 'reserved') open.push(got);
          } else {
            const at = open[what.at % Math.max(open.length, 1)];
            if (at === undefined) continue;
            if (what.do === 'extend') at.extend(what.bytes);
            else if (what.do === 'settle') at.settle(Math.floor(at.grantedBytes() * what.part));
            else at.release();
            if (what.do !== 'extend') open.splice(open.indexOf(at), 1);
          }
          for (const { caps, settled, reserved } of scopes) {
            expect(settled.calls + reserved.calls).toBeLessThanOrEqual(caps.calls as number);
            expect(settled.bytes + reserved.bytes).toBeLessThanOrEqual(caps.bytes as number);
            expect(Math.min(reserved.calls, reserved.bytes, settled.bytes)).toBeGreaterThanOrEqual(
              0,
            );
          }
        }
      },
    ),
  );
});

verifies('budget.calls', 'the call after the last one is refused with the numbers', () => {
  const scope = budgetScope('r-1', { calls: 2 });
  for (let i = 0; i < 2; i++) expect(reserve([scope], 0).kind).toBe('reserved');
  expect(reserve([scope], 0)).toEqual({
    kind: 'refused',
    unit: 'calls',
    reason: 'budget `r-1` refused: 2 of 2 calls are used',
  });
});

verifies('budget.bytes', 'a reservation settles once and frees what was not used', () => {
  const scope = budgetScope('r-1', { bytes: 2_000_000 });
  const first = reserve([scope], 10) as Reservation;
  expect(first.grantedBytes()).toBe(1 << 20);
  first.settle(100);
  first.settle(1_000_000);
  first.release();
  expect(scope.settled).toEqual({ calls: 1, bytes: 100 });
  expect(scope.reserved).toEqual({ calls: 0, bytes: 0 });
});
