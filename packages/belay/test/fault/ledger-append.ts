// Appends as fast as it can and says on stdout what was acknowledged, a line each: INDEX ID, where ID
// tells the entry apart. Runs until it is killed.
//   node ledger-append.ts DIR [FILE-OPS-MODULE]

import { randomBytes } from 'node:crypto';
import type { CallId } from '../../src/core/ids.ts';
import { newRunId, uuid7 } from '../../src/core/ids.ts';
import { openLedgerOn } from '../../src/ledger/open.ts';
import { siblingModule } from '../../src/ledger/segment-ledger.ts';
import { intentOf, SEGMENT_BYTES } from './ledger-shape.ts';

const [dir = '', fileOps] = process.argv.slice(2);
const random = (sizeBytes: number): Uint8Array => randomBytes(sizeBytes);
const { ledger } = await openLedgerOn(
  { dir, clock: Date.now, random, segmentBytes: SEGMENT_BYTES },
  fileOps === undefined ? siblingModule('file-ops') : new URL(fileOps),
);

async function agent(): Promise<never> {
  const run = newRunId(random);
  for (;;) {
    const call = uuid7(Date.now(), random) as CallId;
    const intent = await ledger.append(intentOf(run, call));
    process.stdout.write(`${intent.index} ${call}\n`);
    const done = { sentBytes: 1, receivedBytes: 2, durationMs: 3 };
    const outcome = await ledger.append({ type: 'outcome', run, call, ...done });
    process.stdout.write(`${outcome.index} ${call}\n`);
  }
}

await Promise.all(Array.from({ length: 16 }, agent));
