// Stop states and their epochs. A scope may be stopped for several causes at once; each cause is
// lifted by name and the most severe one that is left holds. A pause is the mildest: new calls wait, and
// what is on the road goes on. An epoch only grows, so a caller that
// kept one can tell whether anything moved since (I4). Hands that cut, freeze or revoke register
// here; this folder knows none of them.

import type { RunId } from '../core/ids.ts';

export type StopState = 'none' | 'paused' | 'quarantined' | 'killed';

export type Scope =
  | { readonly kind: 'global' }
  | { readonly kind: 'environment'; readonly name: string }
  | { readonly kind: 'agent'; readonly name: string }
  | { readonly kind: 'run'; readonly name: RunId };

export interface StopView {
  readonly state: StopState;
  /** Grows whenever a stop in one of the scopes is set or lifted. */
  readonly epoch: number;
  /** Why, for the most severe cause; empty when nothing is stopped. */
  readonly cause: string;
  readonly reason: string;
}

/** Something that can cut, freeze or revoke. Called in the turn in which a stop is set. */
export interface Hand {
  readonly name: string;
  pull(scope: Scope, state: StopState, reason: string): void;
}

export interface Stops {
  /** Sets or changes one cause in a scope, and pulls every hand. */
  set(scope: Scope, cause: string, state: Exclude<StopState, 'none'>, reason: string): void;
  /** Lifts one cause; others stay. */
  lift(scope: Scope, cause: string): void;
  check(scopes: readonly Scope[]): StopView;
  /** Resolves when the next stop is set or lifted, in whatever scope. */
  moved(): Promise<void>;
  register(hand: Hand): void;
}

export function sameScope(one: Scope, other: Scope): boolean {
  return one.kind === other.kind && nameOf(one) === nameOf(other);
}

function nameOf(scope: Scope): string {
  return scope.kind === 'global' ? '' : scope.name;
}

/** Whether a call that is on the road has to end. */
export function halts({ state }: StopView): boolean {
  return state !== 'none' && state !== 'paused';
}

const SEVERITY: Readonly<Record<StopState, number>> = {
  none: 0,
  paused: 1,
  quarantined: 2,
  killed: 3,
};

interface Cause {
  readonly state: StopState;
  readonly reason: string;
}

interface Held {
  epoch: number;
  readonly causes: Map<string, Cause>;
}

export function createStops(): Stops {
  const scopes: Readonly<Record<Scope['kind'], Map<string, Held>>> = {
    global: new Map(),
    environment: new Map(),
    agent: new Map(),
    run: new Map(),
  };
  const hands: Hand[] = [];
  let next = Promise.withResolvers<void>();
  const tell = (): void => {
    next.resolve();
    next = Promise.withResolvers();
  };

  const held = (scope: Scope): Held => {
    const name = nameOf(scope);
    let found = scopes[scope.kind].get(name);
    if (found === undefined) {
      found = { epoch: 0, causes: new Map() };
      scopes[scope.kind].set(name, found);
    }
    return found;
  };

  return {
    set(scope, cause, state, reason) {
      const at = held(scope);
      // INVARIANT: I4: the epoch moves before any hand is pulled, so that a call that is between
      // two checks while a hand works finds it moved.
      at.epoch += 1;
      at.causes.set(cause, { state, reason });
      for (const hand of hands) hand.pull(scope, state, reason);
      tell();
    },
    lift(scope, cause) {
      const at = held(scope);
      if (!at.causes.delete(cause)) return;
      at.epoch += 1;
      tell();
    },
    check(asked) {
      let epoch = 0;
      let worst: Cause = { state: 'none', reason: '' };
      let name = '';
      for (const scope of asked) {
        const at = scopes[scope.kind].get(nameOf(scope));
        if (at === undefined) continue;
        epoch += at.epoch;
        if (at.causes.size === 0) continue;
        for (const [cause, view] of at.causes) {
          if (SEVERITY[view.state] > SEVERITY[worst.state]) {
            worst = view;
            name = cause;
          }
        }
      }
      return { state: worst.state, epoch, cause: name, reason: worst.reason };
    },
    moved: () => next.promise,
    register(hand) {
      hands.push(hand);
    },
  };
}
