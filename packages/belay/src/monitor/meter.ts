// The end of a call. While bytes flow, every chunk in either direction is counted, hashed, and
// checked against the stop state and the reservation before it passes on; when the flow ends,
// however it ends, the outcome is written once and the reservation is settled once.

import { createHash, type Hash, hash } from 'node:crypto';
import type { Reservation } from '../budget/budgets.ts';
import type { ByteFlow, ByteSink, Call, CallBody, Response, Result } from '../core/call.ts';
import type { Outcome } from '../core/entry.ts';
import { asBelayError, BelayError } from '../core/errors.ts';
import type { Clock, RunId } from '../core/ids.ts';
import type { Denial } from '../core/verdict.ts';
import type { Ledger } from '../ledger/ledger.ts';
import { halts, type Stops, type StopView } from '../stop/stops.ts';
import type { MonitoredRun } from './facts.ts';

export interface MeterParts {
  readonly call: Call;
  /** Irreversible: its outcome is durable before the last byte is released. */
  readonly durableFirst: boolean;
  readonly run: MonitoredRun;
  readonly stops: Stops;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly startedAt: number;
  readonly reservation: Reservation;
  /** The stop state at step 7; its epoch is what later checks compare with. */
  readonly after: StopView;
  readonly observe: (run: RunId, event: 'settled') => void;
}

export interface Kept {
  readonly redacted?: ReadonlySet<string>;
  readonly minted?: readonly string[];
}

export interface Meter {
  /** What has stopped the run since step 7, or that its grant is over. */
  stopped(): BelayError | undefined;
  /** The request's body, metered when it is streamed. */
  request(body: CallBody): CallBody;
  /** The response, metered; its end is the call's end. `kept` names what was kept out of it. */
  response(answer: Response, kept: Kept): Result;
  /** The call ends here: nothing was sent, or nothing came back. */
  refused(denial: Denial): Result;
}

export function meter(parts: MeterParts): Meter {
  const { call, run, stops, ledger, clock, startedAt, reservation, after, observe } = parts;
  const { durableFirst } = parts;
  let sentBytes = call.body.kind === 'buffered' ? call.body.bytes.length : 0;
  let sentHash: Hash | undefined;
  let receivedBytes = 0;
  // Most answers are one chunk, and one call digests it.
  let receivedFirst: Uint8Array | undefined;
  let receivedHash: Hash | undefined;
  let firstByteMs: number | undefined;
  /** What has passed, and what is about to. */
  let claimedBytes = sentBytes;
  /** What of the reservation is in the ledger. */
  let recordedBytes = reservation.grantedBytes();
  let kept: Kept = {};
  let open = true;

  const stopped = (): BelayError | undefined => {
    const { expiresAt } = run.grant;
    if (expiresAt !== undefined && clock() >= expiresAt) {
      return new BelayError('ERR_STOPPED', 'the grant expired');
    }
    const now = stops.check(run.scopes);
    if (now.epoch === after.epoch || !halts(now)) return undefined;
    return new BelayError('ERR_STOPPED', `${now.state}: ${now.reason}`);
  };

  /** INVARIANT: I3 and I4: what would exceed a cap, or follows a stop, does not pass. */
  const blocked = (moreBytes: number): BelayError | undefined => {
    if (!open) return new BelayError('ERR_ABORTED', 'the call is over');
    const stop = stopped();
    if (stop !== undefined) return stop;
    const over = claimedBytes + moreBytes - reservation.grantedBytes();
    const refusal = over > 0 ? reservation.extend(over) : undefined;
    if (refusal !== undefined) return new BelayError('ERR_ABORTED', refusal.reason);
    claimedBytes += moreBytes;
    return undefined;
  };

  /** INVARIANT: I3: a slice is on the disk before its bytes pass, so that a crash frees none. */
  const record = async (): Promise<BelayError | undefined> => {
    const bytes = reservation.grantedBytes();
    try {
      await ledger.append({ type: 'intent.extended', run: call.run, call: call.id, bytes });
    } catch (error) {
      return asBelayError('ERR_LEDGER', 'no further slice', error);
    }
    recordedBytes = Math.max(recordedBytes, bytes);
    return blocked(0);
  };

  const settle = (
    status: number | undefined,
    error?: { code: string; reason: string },
  ): Promise<unknown> => {
    if (!open) return Promise.resolve();
    open = false;
    reservation.settle(Math.min(sentBytes + receivedBytes, reservation.grantedBytes()));
    const sentSha256 = call.body.kind === 'buffered' ? call.body.sha256 : sentHash?.digest('hex');
    // A failed append closes the ledger for good; every later call is denied at step 6.
    const settled = ledger.append(
      {
        type: 'outcome',
        run: call.run,
        call: call.id,
        ...(status === undefined ? {} : { status }),
        ...(error === undefined ? {} : { error }),
        ...namesIn(kept),
        sentBytes,
        ...(sentSha256 === undefined ? {} : { sentSha256 }),
        receivedBytes,
        receivedSha256: receivedHash?.digest('hex') ?? hash('sha256', receivedFirst ?? ''),
        durationMs: clock() - startedAt,
      },
      durableFirst ? 'now' : 'soon',
    );
    settled.catch(() => {});
    run.tally.settled({ bytes: sentBytes + receivedBytes, firstByteMs });
    observe(call.run, 'settled');
    return settled;
  };

  async function* metered(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      let why = blocked(chunk.length);
      if (why === undefined && claimedBytes > recordedBytes) why = await record();
      if (why !== undefined) throw why;
      sentBytes += chunk.length;
      sentHash?.update(chunk);
      yield chunk;
    }
  }

  return {
    stopped,

    request(body) {
      if (body.kind !== 'streamed') return body;
      sentHash = createHash('sha256');
      return { kind: 'streamed', source: metered(body.source) };
    },

    response(answer, found) {
      const { status } = answer;
      kept = found;
      const flow = (sink: ByteSink): ByteFlow => {
        let upstream: ByteFlow | undefined;
        let holding = false;
        const breakOff = (error: BelayError): void => {
          settle(status, { code: error.code, reason: error.message });
          upstream?.abort(error);
          sink.fail(error);
        };
        const pass = (chunk: Uint8Array): boolean => {
          receivedBytes += chunk.length;
          if (receivedFirst === undefined) {
            receivedFirst = chunk;
          } else {
            receivedHash ??= createHash('sha256').update(receivedFirst);
            receivedHash.update(chunk);
          }
          return sink.write(chunk);
        };
        const passRecorded = async (chunk: Uint8Array): Promise<void> => {
          holding = true;
          const why = await record();
          holding = false;
          if (!open) return;
          if (why !== undefined) breakOff(why);
          else if (pass(chunk)) upstream?.resume();
        };
        upstream = answer.body.flow({
          write(chunk) {
            if (!open) return false;
            firstByteMs ??= clock() - startedAt;
            const why = blocked(chunk.length);
            if (why !== undefined) {
              breakOff(why);
              return false;
            }
            if (claimedBytes <= recordedBytes) return pass(chunk);
            void passRecorded(chunk);
            return false;
          },
          end(trailers) {
            if (!open) return;
            // INVARIANT: I4: checked once more before the last byte is released.
            const why = blocked(0);
            if (why !== undefined) return breakOff(why);
            if (!durableFirst) {
              // Released first: the agent need not wait while its outcome is put into words.
              try {
                sink.end(trailers);
              } finally {
                settle(status);
              }
              return;
            }
            // The agent hears that it is done when the record says so, or not at all.
            settle(status).then(
              () => sink.end(trailers),
              (failure) => sink.fail(asBelayError('ERR_LEDGER', 'no outcome', failure)),
            );
          },
          fail(error) {
            if (!open) return;
            settle(status, { code: error.code, reason: error.message });
            sink.fail(error);
          },
        });
        return {
          resume() {
            if (!holding) upstream?.resume();
          },
          abort(error) {
            // A stop cuts the client's socket: what the adapter sees as a client that left.
            const { code, message } = stopped() ?? error;
            settle(status, { code, reason: message });
            upstream?.abort(error);
          },
        };
      };
      return { ...answer, body: { flow } };
    },

    refused(denial) {
      settle(undefined, { code: denial.code, reason: denial.reason });
      return { kind: 'denied', denial };
    },
  };
}

/** As the outcome has them: left out when there are none. */
function namesIn({ redacted, minted }: Kept): Pick<Outcome, 'redacted' | 'minted'> {
  return {
    ...(redacted === undefined || redacted.size === 0 ? {} : { redacted: [...redacted].sort() }),
    ...(minted === undefined || minted.length === 0 ? {} : { minted }),
  };
}
