// Entries for those who look: from the daemon while one is alive, else from the files.

import { existsSync } from 'node:fs';
import type { Entry } from '../core/entry.ts';
import { decodeEntry } from '../core/entry-bytes.ts';
import { readHeader, SEGMENT_HEADER_BYTES, scanFrames } from '../core/frame.ts';
import { segmentFiles, segmentsDirOf } from '../ledger/segment-files.ts';
import { connectControl } from './client.ts';
import type { Home } from './home.ts';
import { alive } from './start-daemon.ts';

export interface Look {
  readonly from?: number;
  /** Go on with new entries until the reader stops; needs a daemon. */
  readonly follow?: boolean;
  readonly run?: string;
}

export async function* entriesOf(home: Home, look: Look): AsyncGenerator<Entry> {
  const from = look.from ?? 0;
  const wanted = (entry: Entry): boolean =>
    look.run === undefined || ('run' in entry && entry.run === look.run);
  const client = connectControl(home);
  if (!(await alive(client))) {
    for await (const entry of entriesOnDisk(home.ledger, from)) if (wanted(entry)) yield entry;
    return;
  }
  const path = `/v1/entries?from=${from}${look.follow === true ? '&follow=1' : ''}`;
  await using stream = await client.lines<Entry>('GET', path);
  for await (const entry of stream.lines) if (wanted(entry)) yield entry;
}

/** Every sound entry of the files; what is damaged is for `belay log verify` to name. */
async function* entriesOnDisk(dir: string, from: number): AsyncGenerator<Entry> {
  if (!existsSync(segmentsDirOf(dir))) return;
  for await (const { bytes } of segmentFiles(dir)) {
    if (readHeader(bytes).kind !== 'header') continue;
    const entries: Entry[] = [];
    scanFrames(bytes, SEGMENT_HEADER_BYTES, ({ payload }) => {
      const read = decodeEntry(payload);
      if (read.kind === 'entry' && read.entry.index >= from) entries.push(read.entry);
    });
    yield* entries;
  }
}
