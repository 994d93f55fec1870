// Finds pushes among requests and reads them. A request that any server may take for a push, by its
// path or by the type of its body, is one, or it is unreadable, which no policy permits: it must not
// pass as a write like others. What is read here are the very bytes that are sent on.

import { type Push, type RefChange, repositoryOf, type UnreadablePush } from '../../core/push.ts';
import type { Head } from '../http/head.ts';
import { type Command, type CommandList, readCommands } from './commands.ts';
import { follows, type Link } from './pack.ts';

type AskedHead = Pick<Head, 'method' | 'path' | 'query' | 'headers' | 'bodyBytes'>;

/** Of a body that is too large to keep: enough for its commands and for the commits of most pushes. */
export const PUSH_BYTES = 128 << 10;

const SERVICE = /(?:^|\/)git-receive-pack(?![a-z0-9_-])/i;
const BODY_TYPE = 'application/x-git-receive-pack-request';

/** Whether a request could be a push: then its body is read with `readPush`. */
export function isPush({ method, path, headers, bodyBytes }: AskedHead): boolean {
  if (bodyBytes === 0 && (method === 'GET' || method === 'HEAD' || method === 'OPTIONS')) {
    return false;
  }
  if (SERVICE.test(path) || (path.includes('%') && SERVICE.test(decoded(path)))) return true;
  return headers.some(([name, value]) => name === 'content-type' && /git-receive/i.test(value));
}

/** What was read of the body, from its start: nothing of one that we had no memory for. */
export type FirstBytes =
  | { readonly kind: 'none' }
  | { readonly kind: 'unread' }
  | { readonly kind: 'read'; readonly bytes: Buffer; readonly whole: boolean };

type Pause = () => Promise<void>;

/** Lets a proof be looked for; undefined when too many others are. */
export type Prove = (
  follow: (pause: Pause) => Promise<readonly boolean[]>,
) => Promise<readonly boolean[] | undefined>;

/** Rejects as `prove` does. */
export async function readPush(
  head: AskedHead,
  first: FirstBytes,
  prove: Prove,
): Promise<Push | UnreadablePush> {
  const repository = repositoryOf(head.path);
  if (repository === undefined) return unreadable('its path is not that of a repository');
  if (head.method !== 'POST') return unreadable(`its method is ${head.method}`);
  if (head.query !== '') return unreadable('it has a query');
  const type = head.headers.find(([name]) => name === 'content-type')?.[1];
  if (type !== BODY_TYPE) return unreadable('its body is of another type');
  if (head.headers.some(([name]) => name === 'content-encoding')) {
    return unreadable('its body is in a coding');
  }
  if (first.kind === 'none') return unreadable('it has no body');
  if (first.kind === 'unread') return unreadable('the bodies of its run are as many as we hold');
  const { bytes, whole } = first;
  const list = readCommands(bytes, whole);
  if (list.kind === 'unreadable') return unreadable(list.reason);
  const refs = await changes(list, bytes.subarray(list.end), prove);
  if (refs === undefined) return unreadable('too many pushes of its run are being read');
  return { kind: 'push', repository, refs };
}

async function changes(
  { commands, hash, shallow }: CommandList,
  pack: Buffer,
  prove: Prove,
): Promise<readonly RefChange[] | undefined> {
  const links = commands.flatMap((command): Link[] =>
    command.old === undefined || command.new === undefined
      ? []
      : [{ old: command.old, new: command.new }],
  );
  const shown =
    links.length === 0
      ? []
      : await prove((pause) => follows(pack, links, { hash, shallow, pause }));
  if (shown === undefined) return undefined;
  const proven = new Set(links.filter((_, i) => shown[i]).map(({ new: id, old }) => old + id));
  return commands.map((command) => change(command, proven));
}

function change({ ref, old, new: id }: Command, proven: ReadonlySet<string>): RefChange {
  if (id === undefined) return { change: 'delete', ...(old === undefined ? {} : { old }), ref };
  if (old === undefined) return { change: 'create', new: id, ref };
  return { change: proven.has(old + id) ? 'fast-forward' : 'unproven', new: id, old, ref };
}

/** With every escape undone, as often as some server might. */
function decoded(path: string): string {
  let text = path;
  for (let i = 0; i < 4 && text.includes('%'); i++) {
    text = text.replace(/%[0-9A-Fa-f]{2}/g, (triplet) =>
      String.fromCharCode(Number.parseInt(triplet.slice(1), 16)),
    );
  }
  return text;
}

function unreadable(reason: string): UnreadablePush {
  return { kind: 'unreadable', reason: `not read as a push: ${reason}` };
}
