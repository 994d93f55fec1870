// The runs that the guard holds, and what each of them should be: running, frozen, or frozen for
// good. What is done to one run is done in order; runs do not wait for each other. A run that
// cannot be cut or frozen, that moves after it was frozen, or whose launcher or inner guard is gone,
// is killed: an agent that nobody holds does not go on (I7).

import { BelayError, reasonOf, unreachable } from '../core/errors.ts';
import type { RunId } from '../core/ids.ts';
import { openLink, type SandboxLink } from './guard-link.ts';
import type { GuardedState, GuardRequest, RunRegistration } from './guard-protocol.ts';

const MOST_RUNS = 512;

/** Tells a run's launcher. */
export type Tell = (notice: { readonly [key: string]: unknown }) => void;

export interface GuardedRun {
  readonly registration: RunRegistration;
  readonly link: SandboxLink;
  tell: Tell | null;
  abandoned: boolean;
  ended: boolean;
  /** The daemon asked for a freeze of this run alone. */
  asked: boolean;
  /** Why it is frozen for good; nothing takes this back. */
  final: string | null;
  /** Null until known: an earlier guard may have left it frozen. */
  frozen: boolean | null;
  work: Promise<void>;
}

export class GuardedRuns implements AsyncDisposable {
  readonly #runs = new Map<RunId, GuardedRun>();
  readonly #opening = new Map<RunId, Promise<GuardedRun>>();
  /** Called when a run has ended whose launcher is gone. */
  readonly #onAbandoned: () => void;
  #silent = false;
  /** How often all runs were finished; a run that was being registered meanwhile is one of them. */
  #finishes = 0;

  constructor(onAbandoned: () => void) {
    this.#onAbandoned = onAbandoned;
  }

  get size(): number {
    return this.#runs.size + this.#opening.size;
  }

  known(names: readonly RunId[]): readonly RunId[] {
    return names.filter((name) => this.#runs.has(name));
  }

  list(): readonly GuardedState[] {
    return [...this.#runs].map(([run, { link, frozen, final }]) => {
      return { run, method: link.method, frozen: frozen === true, final };
    });
  }

  get(name: RunId): GuardedRun {
    const run = this.#runs.get(name);
    if (run === undefined) throw new BelayError('ERR_GUARD', `the guard holds no run ${name}`);
    return run;
  }

  /** The same registration may come twice: from its launcher, and from the daemon to a new guard. */
  async register(registration: RunRegistration): Promise<GuardedRun> {
    const name = registration.run;
    const known = this.#runs.get(name) ?? (await this.#opening.get(name));
    if (known !== undefined) {
      if (JSON.stringify(known.registration) === JSON.stringify(registration)) return known;
      throw new BelayError('ERR_GUARD', `${name} is registered with other processes`);
    }
    if (this.size >= MOST_RUNS) throw new BelayError('ERR_GUARD', 'the guard holds too many runs');
    const opening = this.#open(registration);
    this.#opening.set(name, opening);
    try {
      return await opening;
    } finally {
      this.#opening.delete(name);
    }
  }

  async #open(registration: RunRegistration): Promise<GuardedRun> {
    const finishes = this.#finishes;
    const link = await openLink(registration, () => this.#lose(run, 'it moved while frozen'));
    const run: GuardedRun = {
      registration,
      link,
      tell: null,
      abandoned: false,
      ended: false,
      asked: false,
      final: null,
      frozen: null,
      work: Promise.resolve(),
    };
    this.#runs.set(registration.run, run);
    void link.ended.then(() => this.#ended(run));
    if (this.#finishes !== finishes) this.#finish(run, 'the daemon went while the run started');
    else if (this.#silent) void this.#settle(run);
    return run;
  }

  setSilent(silent: boolean): void {
    this.#silent = silent;
    for (const run of this.#runs.values()) void this.#settle(run);
  }

  /** Cuts and freezes every run for good. */
  finish(reason: string): void {
    this.#finishes++;
    for (const run of this.#runs.values()) this.#finish(run, reason);
  }

  #finish(run: GuardedRun, reason: string): void {
    if (run.final !== null) return;
    run.final = reason;
    void this.#do(run, () => run.link.cut());
    // A run that is frozen already is told that it stays so.
    void this.#do(run, async () => {
      if (run.frozen !== true) await run.link.freeze();
      run.frozen = true;
      run.tell?.({ frozen: true, final: reason });
    });
  }

  async cut(name: RunId): Promise<void> {
    const run = this.get(name);
    await this.#do(run, () => run.link.cut());
    run.tell?.({ cut: true });
  }

  async setAsked(name: RunId, asked: boolean): Promise<void> {
    const run = this.get(name);
    run.asked = asked;
    await this.#settle(run);
    if (run.frozen !== asked) {
      const why = run.final ?? 'the daemon is silent';
      throw new BelayError('ERR_GUARD', `${name} stays frozen: ${why}`);
    }
  }

  async kill(name: RunId): Promise<void> {
    await this.get(name).link.kill();
  }

  /** Answers a request whose sender may ask it. */
  async carry(request: GuardRequest): Promise<{ readonly [key: string]: unknown }> {
    switch (request.kind) {
      case 'ack':
        return { known: this.known(request.runs) };
      case 'list':
        return { runs: this.list() };
      case 'register': {
        const { registration, link } = await this.register(request.registration);
        return { registered: registration.run, method: link.method };
      }
      case 'cut':
        await this.cut(request.run);
        return { ok: true };
      case 'freeze':
      case 'thaw':
        await this.setAsked(request.run, request.kind === 'freeze');
        return { ok: true };
      case 'kill':
        await this.kill(request.run);
        return { ok: true };
      default:
        return unreachable(request);
    }
  }

  /** For a run that nobody holds any more. */
  release(run: GuardedRun): void {
    run.tell = null;
    run.abandoned = true;
    // The sandbox dies with its launcher: often it is the first to be gone.
    if (run.ended) this.#onAbandoned();
    else this.#lose(run, 'its launcher is gone');
  }

  #settle(run: GuardedRun): Promise<void> {
    return this.#do(run, async () => {
      const frozen = this.#silent || run.asked || run.final !== null;
      if (frozen === run.frozen) return;
      await (frozen ? run.link.freeze() : run.link.thaw());
      run.frozen = frozen;
      run.tell?.({ frozen, final: run.final });
    });
  }

  /** Never rejects for the next in line; rejects for its caller, after the run has been killed. */
  #do(run: GuardedRun, step: () => Promise<void>): Promise<void> {
    const done = run.work.then(step);
    run.work = done.catch((error) => this.#lose(run, reasonOf(error)));
    // The one who asked hears of it; where nobody asked, `work` has handled it.
    done.catch(() => {});
    return done;
  }

  #lose(run: GuardedRun, why: string): void {
    run.tell?.({ killed: why });
    // A kill that is late has been sent all the same, and `ended` tells when it is done.
    run.link.kill().catch(() => {});
  }

  #ended(run: GuardedRun): void {
    run.ended = true;
    this.#runs.delete(run.registration.run);
    // The inner guard may have been ended by another than the sandbox's end; and a freeze that was
    // under way may still come.
    const kill = (): Promise<void> => run.link.kill().catch(() => {});
    void kill();
    void run.work.then(kill);
    run.tell?.({ ended: true });
    if (run.abandoned) this.#onAbandoned();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#runs.values()].map((run) => run.link[Symbol.asyncDispose]()));
  }
}
