// Appends one entry after the other until one is refused, tries some more, and prints as JSON what it
// met, with what the ledger holds then.
//   node ledger-fill.ts DIR MOST

import { randomBytes } from 'node:crypto';
import { verifySegments } from '../../src/core/audit.ts';
import type { BelayError } from '../../src/core/errors.ts';
import { openLedger } from '../../src/ledger/open.ts';
import { segmentFiles } from '../../src/ledger/segment-files.ts';
import { SEGMENT_BYTES } from './ledger-shape.ts';

export interface FillResult {
  readonly acknowledged: number;
  readonly refusal?: { readonly code: string; readonly message: string; readonly hint?: string };
  /** Entries that were taken after the refusal. */
  readonly takenLater: number;
  readonly health: string;
  /** What reads back. */
  readonly entries: number;
  readonly ok: boolean;
}

const [dir = '', most = '0'] = process.argv.slice(2);
const { ledger } = await openLedger({
  dir,
  clock: Date.now,
  random: (sizeBytes) => randomBytes(sizeBytes),
  segmentBytes: SEGMENT_BYTES,
});
const body = { type: 'config.load' as const, detail: { text: 'x'.repeat(1000) } };
let acknowledged = 0;
let refusal: BelayError | undefined;
while (refusal === undefined && acknowledged < Number(most)) {
  await ledger.append(body).then(
    () => acknowledged++,
    (error: BelayError) => {
      refusal = error;
    },
  );
}
let takenLater = 0;
if (refusal !== undefined) {
  for (let i = 0; i < 20; i++) {
    await ledger.append(body).then(
      () => takenLater++,
      () => undefined,
    );
    await new Promise(setImmediate);
  }
}
let entries = 0;
for await (const _ of ledger.read()) entries++;
const health = ledger.health();
await ledger[Symbol.asyncDispose]();
const { ok } = await verifySegments(segmentFiles(dir));
const result: FillResult = {
  acknowledged,
  ...(refusal && {
    refusal: {
      code: refusal.code,
      message: refusal.message,
      ...(refusal.hint !== undefined && { hint: refusal.hint }),
    },
  }),
  takenLater,
  health: health.kind,
  entries,
  ok,
};
console.log(JSON.stringify(result));
