// Hard caps on calls and bytes. Every call reserves an upper bound in each scope it is under,
// before its effect, and settles it afterwards. INVARIANT: I3: in every scope settled plus
// reserved never exceeds the cap. All arithmetic is synchronous on one thread, so no interleaving
// of calls can pass between the check and the reservation.

/** Bytes are reserved a slice at a time, because the size of an answer is not known before. */
const SLICE_BYTES = 1 << 20;
/** Each further slice is an entry that its bytes wait for: a large call takes fewer and larger ones. */
const MOST_SLICE_BYTES = 16 << 20;

export interface Caps {
  readonly calls?: number;
  readonly bytes?: number;
}

/** Of one run. */
export interface RunCaps extends Caps {
  /** Refused attempts of any kind. */
  readonly denials: number;
  /** More of them within a minute pause the run. */
  readonly denialsPerMinute: number;
}

/** One counter set; `name` is what a refusal calls it. */
export interface BudgetScope {
  readonly name: string;
  readonly caps: Caps;
  readonly settled: { calls: number; bytes: number };
  readonly reserved: { calls: number; bytes: number };
}

export interface Refusal {
  readonly kind: 'refused';
  readonly unit: 'calls' | 'bytes';
  readonly reason: string;
}

export interface Reservation {
  readonly kind: 'reserved';
  /** Bytes that may move before `extend` is asked again. */
  grantedBytes(): number;
  /** Reserves more bytes: up to one slice, at least `needBytes`, or refuses. */
  extend(needBytes: number): Refusal | undefined;
  /** Books the real bytes and frees the rest; a second call changes nothing. */
  settle(bytes: number): void;
  /** Gives everything back, the call included: the effect did not happen. */
  release(): void;
}

export function budgetScope(name: string, caps: Caps): BudgetScope {
  return { name, caps, settled: { calls: 0, bytes: 0 }, reserved: { calls: 0, bytes: 0 } };
}

/** Reserves one call and at least `needBytes` in every scope, or in none. */
export function reserve(scopes: readonly BudgetScope[], needBytes: number): Reservation | Refusal {
  for (const scope of scopes) {
    const used = scope.settled.calls + scope.reserved.calls;
    const cap = scope.caps.calls;
    if (cap !== undefined && used + 1 > cap) {
      return refusal(scope, 'calls', `${used} of ${cap} calls are used`);
    }
  }
  const first = grantable(scopes, needBytes, 0);
  if (typeof first !== 'number') return first;
  for (const scope of scopes) scope.reserved.calls += 1;
  let granted = 0;
  let open = true;
  const take = (bytes: number): void => {
    for (const scope of scopes) scope.reserved.bytes += bytes;
    granted += bytes;
  };
  const close = (calls: number, bytes: number): void => {
    if (!open) return;
    open = false;
    for (const scope of scopes) {
      scope.reserved.calls -= 1;
      scope.reserved.bytes -= granted;
      scope.settled.calls += calls;
      scope.settled.bytes += bytes;
    }
  };
  take(first);
  return {
    kind: 'reserved',
    grantedBytes: () => granted,
    extend(need) {
      const more = grantable(scopes, need, granted);
      if (typeof more !== 'number') return more;
      take(more);
      return undefined;
    },
    settle: (bytes) => close(1, bytes),
    release: () => close(0, 0),
  };
}

/** One slice, or what is left of the tightest cap if that still covers the need. */
function grantable(
  scopes: readonly BudgetScope[],
  needBytes: number,
  grantedBytes: number,
): number | Refusal {
  let leastLeft = Number.POSITIVE_INFINITY;
  for (const scope of scopes) {
    const cap = scope.caps.bytes;
    if (cap === undefined) continue;
    const used = scope.settled.bytes + scope.reserved.bytes;
    const left = cap - used;
    if (left < needBytes || left <= 0)
      return refusal(scope, 'bytes', `${used} of ${cap} bytes are used`);
    leastLeft = Math.min(leastLeft, left);
  }
  // As much again as the call has, but near a cap the others are to get theirs, too.
  const again = Math.min(grantedBytes, MOST_SLICE_BYTES, Math.floor(leastLeft / 4));
  return Math.min(leastLeft, Math.max(needBytes, SLICE_BYTES, again));
}

function refusal(scope: BudgetScope, unit: 'calls' | 'bytes', why: string): Refusal {
  return { kind: 'refused', unit, reason: `budget \`${scope.name}\` refused: ${why}` };
}
