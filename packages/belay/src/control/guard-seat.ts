// The launcher's registration with the guard, renewed when a new guard takes the place of a lost
// one: the run belongs to whoever guards it now, and ends with its launcher either way.

import {
  type GuardedRegistration,
  type GuardNotice,
  registerWithGuard,
} from '../sandbox/guard-client.ts';

type RegistrationOptions = Parameters<typeof registerWithGuard>[0];

const RETRY_MS = 100;

export class GuardSeat implements Disposable {
  readonly #options: Omit<RegistrationOptions, 'onNotice'>;
  readonly #onNotice: (notice: GuardNotice) => void;
  #seat: GuardedRegistration | undefined;
  #timer: NodeJS.Timeout | undefined;
  #ending = false;

  constructor(
    options: Omit<RegistrationOptions, 'onNotice'>,
    onNotice: (notice: GuardNotice) => void,
  ) {
    this.#options = options;
    this.#onNotice = onNotice;
  }

  /** Throws ERR_GUARD when there is no guard. */
  async take(): Promise<void> {
    const seat = await registerWithGuard({
      ...this.#options,
      onNotice: (notice) => {
        this.#onNotice(notice);
        if (notice.kind === 'lost') this.#retake();
      },
    });
    if (this.#ending) seat[Symbol.dispose]();
    else this.#seat = seat;
  }

  #retake(): void {
    if (this.#ending) return;
    this.#timer = setTimeout(() => {
      // No guard yet: calls stay denied meanwhile, and the next turn tries again.
      this.take().catch(() => this.#retake());
    }, RETRY_MS);
  }

  [Symbol.dispose](): void {
    this.#ending = true;
    clearTimeout(this.#timer);
    this.#seat?.[Symbol.dispose]();
  }
}
