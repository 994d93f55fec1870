// `belay policy suggest --from RUN`: the least that would have let a run do what it tried, out of its
// entries in the ledger. Pure. What presets cannot say is a host; what no entry can allow is listed.

import type { CallHead, Entry } from '../core/entry.ts';
import { BelayError } from '../core/errors.ts';
import { entryFor, pushEntriesFor } from './remedy.ts';

export interface Suggestion {
  readonly run: string;
  readonly agent: string;
  readonly environment: string;
  /** Entries for `allow`: enough for all that was permitted, and for what only lacked a permit. */
  readonly allow: readonly string[];
  /** What policy files permitted without an entry. */
  readonly byPolicies: number;
  readonly calls: number;
  /** Denials that no entry of a grant changes, alike ones together. */
  readonly refused: readonly {
    readonly method: string;
    readonly host: string;
    readonly port: number;
    readonly code: string;
    readonly reason: string;
    readonly count: number;
  }[];
}

const MOST_REFUSED = 100;

/** Throws ERR_NOT_FOUND for a run that is not in `entries`. */
export async function suggest(run: string, entries: AsyncIterable<Entry>): Promise<Suggestion> {
  let opened: { readonly agent: string; readonly env: string } | undefined;
  const allow = new Set<string>();
  const refused = new Map<string, Suggestion['refused'][number]>();
  let byPolicies = 0;
  let calls = 0;
  for await (const entry of entries) {
    if (entry.type === 'run.open') opened = entry;
    if (entry.type === 'intent') {
      calls += 1;
      if (entry.policies.every((id) => !id.startsWith('grant:'))) byPolicies += 1;
      else entriesFor(entry).forEach((one) => void allow.add(one));
    }
    if (entry.type !== 'denial') continue;
    if (entry.code === 'policy.no-permit') entriesFor(entry).forEach((one) => void allow.add(one));
    else note(refused, entry, entry.code, entry.reason);
  }
  if (opened === undefined) {
    throw new BelayError('ERR_NOT_FOUND', `no run \`${run}\` in the ledger`, {
      hint: '`belay log runs` lists the runs of this home',
    });
  }
  return {
    run,
    agent: opened.agent,
    environment: opened.env,
    allow: narrowed(allow),
    byPolicies,
    calls,
    refused: [...refused.values()],
  };
}

/** A push outside the branches of agents brings along what it asks for. */
function entriesFor(head: CallHead): readonly string[] {
  const pushes = pushEntriesFor(head);
  return pushes.length > 0 && pushes.length === head.push?.refs.length
    ? pushes
    : [entryFor(head), ...pushes];
}

function note(
  refused: Map<string, Suggestion['refused'][number]>,
  { method, host, port }: CallHead,
  code: string,
  reason: string,
): void {
  const key = `${code} ${method} ${host}:${port}`;
  const known = refused.get(key);
  if (known === undefined && refused.size >= MOST_REFUSED) return;
  refused.set(key, { method, host, port, code, reason, count: (known?.count ?? 0) + 1 });
}

/** A port of a host that is allowed on its usual ports needs no entry of its own. */
function narrowed(entries: ReadonlySet<string>): readonly string[] {
  return [...entries]
    .filter((entry) => {
      const usual = /^(.*):(?:443|80)$/.exec(entry)?.[1];
      return usual === undefined || entry.includes('://') || !entries.has(usual);
    })
    .sort();
}
