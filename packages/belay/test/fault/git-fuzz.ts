// Bodies of pushes at the reader of the installed package, whose refs are what policy judges, beside
// git's receive-pack and a reader that takes what git takes. No bytes throw, or take time or memory; a
// list that is read has the same refs and ids to both, and its pack begins at the same byte; what is said
// to be shown is ancestry, by the hash of each commit and to git; of a body that is cut nothing else is
// read; and the pushes of a real git are read as what they are.
//
//   node git-fuzz.ts [SECONDS] [SEED]

import type { RefChange } from '../../src/core/push.ts';
import type * as Commands from '../../src/gateway/git/commands.ts';
import type * as Push from '../../src/gateway/git/push.ts';
import { FULL_SECONDS, type FuzzFigures, fuzz, type Judged } from './fuzzer.ts';
import { commitsAmong, leads, type ReadCommand, readList, readObjects } from './git-reader.ts';
import { remade, writePack } from './git-remade.ts';
import { installedModule } from './installed-module.ts';
import type { Chance } from './random.ts';
import { createRealGit, type Hash, HOOK_ALONE, type RealGit, type RealPush } from './real-git.ts';

export const covers = ['packages/belay/src/gateway'];
/** CPU and memory of one body of at most 32 KiB. */
const MOST_MS = 1_000;
const MOST_BYTES = 128 << 20;
/** Beside each body of a new kind: git takes 20 ms. */
const ASK_GIT = 1 / 20;
const CUT = 1 / 20;
const REMADE = 2 / 3;
/** Of a body whose commands git would carry out, one or all of them. */
const ASKED = 'takes it';
/** Git asks for it: a pack, as long as a body has one. */
const PACK_MARK_BYTES = 4;

/** Bodies that a real git was asked about, the refs that it was asked to change, and how. */
interface Counts {
  bodies: number;
  refs: number;
  fastForwards: number;
}

export interface GitFuzzFigures extends FuzzFigures {
  readonly git: Readonly<Counts>;
  /** Refs that were said to be fast-forwards, from one commit to another. */
  readonly shown: number;
}

interface Reader {
  readonly readCommands: typeof Commands.readCommands;
  readonly readPush: typeof Push.readPush;
}

/** Throws when a promise does not hold. */
export async function prove(size: {
  readonly scale: number;
  readonly seed: number;
}): Promise<GitFuzzFigures> {
  return await fuzzGit(FULL_SECONDS * size.scale, size.seed);
}

async function fuzzGit(seconds: number, seed: number): Promise<GitFuzzFigures> {
  const reader: Reader = {
    ...((await installedModule('gateway/git/commands.js')) as typeof Commands),
    ...((await installedModule('gateway/git/push.js')) as typeof Push),
  };
  using git = createRealGit();
  const before = git.refs();
  const counts: Counts = { bodies: 0, refs: 0, fastForwards: 0 };
  for (const push of git.pushes) {
    const refs = await readAsItIs(reader, push);
    const byGit = judgedByGit(git, push.body, push.hash, refs, counts);
    const problem =
      'problem' in byGit ? byGit.problem : byGit.sort === ASKED ? undefined : byGit.sort;
    if (problem !== undefined)
      throw new Error(`git-fuzz: the push \`${push.name}\`: git ${problem}`);
  }
  let shown = 0;
  const words = wordsOf(git.ids);
  const known = new Set<string>();

  const judge = async (input: Buffer, draw: Chance): Promise<Judged> => {
    const read = await bounded(() => reader.readPush(HEAD, firstOf(input, true), PROVE));
    if (typeof read === 'string') return { problem: read };
    if (read.kind === 'unreadable') return { sort: read.reason };
    const list = reader.readCommands(input, true);
    if (list.kind === 'unreadable') return { problem: 'a push without a command list' };
    const theirs = readList(input);
    if (theirs === undefined) return { problem: 'a push in what git does not read' };
    if (theirs.end !== list.end) return { problem: `a pack at ${list.end}, not at ${theirs.end}` };
    const problem = differenceOf(read.refs, theirs.commands);
    if (problem !== undefined) return { problem };

    const commits = commitsAmong(readObjects(input.subarray(list.end), list.hash), list.hash);
    for (const change of read.refs) {
      if (change.change !== 'fast-forward' || change.old === change.new) continue;
      shown += 1;
      if (!leads(commits, change.new as string, change.old as string, list.hash)) {
        return { problem: `${change.ref}: no commits lead from ${change.new} to ${change.old}` };
      }
    }
    const changes = [...new Set(read.refs.map(({ change }) => change))].sort().join(' ');
    const sort = `${list.hash}: ${changes || 'nothing'}, ${few(commits.size)} commits`;
    const kind = `${changes}, ${commits.size > 0}`;
    if (draw.happens(CUT) || !known.has(kind)) {
      const wrong = await cutProblem(reader, input, read.refs, list.end);
      if (wrong !== undefined) return { problem: wrong };
    }
    if (!draw.happens(ASK_GIT) && known.has(kind)) return { sort };
    known.add(kind);
    const other = list.hash === 'sha1' ? 'sha256' : 'sha1';
    const byGit = judgedByGit(git, input, draw.happens(0.1) ? other : list.hash, read.refs, counts);
    return 'problem' in byGit ? byGit : { sort: `${sort}, git ${byGit.sort}` };
  };
  const made = [...git.pushes.map(({ body }) => body), bombs(git.pushes)];
  const remake = (input: Buffer, draw: Chance): Buffer | undefined =>
    draw.happens(REMADE) ? remade(input, words, draw) : undefined;
  const subject = { name: 'git', made, words, remake, judges: [judge] };
  const figures = await fuzz(subject, { seconds, seed });
  if (git.refs() !== before) throw new Error('git-fuzz: git changed a ref without a question');
  return { ...figures, git: counts, shown };
}

const HEAD = {
  method: 'POST',
  path: '/team/app.git/git-receive-pack',
  query: '',
  headers: [['content-type', 'application/x-git-receive-pack-request']],
  bodyBytes: undefined,
} satisfies Parameters<typeof Push.readPush>[0];

const PROVE: Push.Prove = (follow) => follow(async () => {});

function firstOf(bytes: Buffer, whole: boolean): Push.FirstBytes {
  return bytes.length === 0 ? { kind: 'none' } : { kind: 'read', bytes, whole };
}

async function readAsItIs(
  { readPush }: Reader,
  { name, body, changes }: RealPush,
): Promise<readonly RefChange[]> {
  const read = await readPush(HEAD, firstOf(body, true), PROVE);
  if (read.kind === 'unreadable') throw new Error(`git-fuzz: the push \`${name}\`: ${read.reason}`);
  const found = Object.fromEntries(read.refs.map(({ ref, change }) => [ref, change]));
  const sorted = (of: object): string => JSON.stringify(Object.entries(of).sort());
  if (sorted(found) !== sorted(changes)) {
    throw new Error(`git-fuzz: the push \`${name}\` is read as ${JSON.stringify(found)}`);
  }
  return read.refs;
}

/** What git would do is among what was read, and what was said to be shown is to git as well. */
function judgedByGit(
  git: RealGit,
  body: Buffer,
  hash: Hash,
  refs: readonly RefChange[],
  counts: Counts,
): Judged {
  const { asked, reported } = git.receive(body, hash);
  counts.bodies += 1;
  counts.refs += asked.length;
  counts.fastForwards += asked.filter(({ follows }) => follows).length;
  for (const one of asked) {
    const mine = refs.filter(({ ref }) => ref === one.ref);
    const difference = differenceOf(mine, [one]);
    if (difference !== undefined) return { problem: `to git, ${difference}` };
    const [{ change, old, new: id } = {}] = mine;
    // Git has not every commit of a push that it refuses.
    const wrong = one.follows === false || reported?.get(one.ref) === HOOK_ALONE;
    if (change === 'fast-forward' && old !== id && !one.follows && wrong) {
      return { problem: `${one.ref} is a fast-forward, and none to git` };
    }
  }
  const unread = [...(reported?.keys() ?? [])].filter(
    (name) => !refs.some(({ ref }) => ref === name),
  );
  if (unread.length > 0) return { problem: `git read commands for ${unread.join(' ')}` };
  if (asked.length > 0) return { sort: ASKED };
  return { sort: reported === undefined ? 'refuses it' : 'refuses its pack' };
}

/** What came of it, or what was wrong with how. */
async function bounded<T>(work: () => Promise<T>): Promise<T | string> {
  const bytesBefore = process.resourceUsage().maxRSS * 1024;
  const before = process.cpuUsage();
  try {
    const result = await work();
    const { user, system } = process.cpuUsage(before);
    const ms = Math.round((user + system) / 1000);
    const bytes = process.resourceUsage().maxRSS * 1024 - bytesBefore;
    if (ms > MOST_MS) return `took ${ms} ms`;
    return bytes > MOST_BYTES ? `took ${bytes >> 20} MiB` : result;
  } catch (error) {
    return `threw ${(error as Error).stack}`;
  }
}

/** The same refs in the same order, from and to the same ids. */
function differenceOf(
  mine: readonly RefChange[],
  theirs: readonly ReadCommand[],
): string | undefined {
  const text = (ref: string, old: string | undefined, id: string | undefined): string =>
    JSON.stringify([old ?? 'none', id ?? 'none', ref]);
  const orNone = (id: string): string | undefined => (/^0+$/.test(id) ? undefined : id);
  const ours = mine.map((change) => text(change.ref, change.old, change.new)).join();
  const other = theirs.map((one) => text(one.ref, orNone(one.old), orNone(one.new))).join();
  return ours === other ? undefined : `${ours || 'nothing'} is ${other || 'nothing'}`;
}

/** Of the first bytes of a longer body. */
async function cutProblem(
  { readCommands, readPush }: Reader,
  input: Buffer,
  refs: readonly RefChange[],
  end: number,
): Promise<string | undefined> {
  for (let length = 0; length < Math.min(input.length, end + PACK_MARK_BYTES); length++) {
    const read = readCommands(input.subarray(0, length), false);
    if (read.kind === 'commands') return `${length} bytes of ${end} are a command list`;
    if (length < end && !read.reason.endsWith('is not whole')) {
      return `${length} bytes of ${end} are ${read.reason}`;
    }
  }
  if (input.length < end + PACK_MARK_BYTES) return undefined;
  const length = end + PACK_MARK_BYTES;
  const read = await readPush(HEAD, firstOf(input.subarray(0, length), false), PROVE);
  if (read.kind === 'unreadable') return `unreadable when cut behind its list: ${read.reason}`;
  const unproven = refs.map((one) =>
    one.change === 'fast-forward' && one.old !== one.new ? { ...one, change: 'unproven' } : one,
  );
  return JSON.stringify(read.refs) === JSON.stringify(unproven)
    ? undefined
    : 'other refs when cut behind its list';
}

function few(count: number): string {
  return count > 2 ? 'many' : (['no', 'one', 'two'][count] ?? '');
}

/** A push whose pack has a megabyte of zeros again and again, before the commits. */
function bombs(pushes: readonly RealPush[]): Buffer {
  const push = pushes.find(({ name }) => name === 'fast-forward') as RealPush;
  const end = readList(push.body)?.end as number;
  const objects = readObjects(push.body.subarray(end), 'sha1');
  const zeros = { type: 3, content: Buffer.alloc(1 << 20), start: -1 };
  const many = [...Array.from({ length: 20 }, () => zeros), ...objects];
  return Buffer.concat([push.body.subarray(0, end), writePack(many, 'sha1')]);
}

function wordsOf(ids: readonly string[]): readonly Buffer[] {
  const texts = [
    ...ids.map((id) => `parent ${id}\n`),
    ...ids.slice(0, 4).flatMap((id) => [id, `tree ${id}\n`, `shallow ${id}\n`]),
    ...['parent ', 'tree ', 'author a <a> 1 +0000\n', '\n', '\0', ' ', 'PACK', 'ERR ', 'push-cert'],
    ...['0000', '0001', '0002', '0003', '0004', '0005', '000a', '00', 'FFFF'],
    ...['0'.repeat(40), '0'.repeat(64), 'refs/heads/main', 'refs/heads/', 'refs/', '.lock', '..'],
    ...['\0 report-status-v2 side-band-64k', ' push-options', ' object-format=sha256', ' atomic'],
    ...[' object-format=sha1', ' agent=x', ' delete-refs', '\xe4', '\r', '\t', '@{', '*'],
  ];
  return texts.map((text) => Buffer.from(text, 'latin1'));
}

if (import.meta.main) {
  const [seconds = '12', seed = String(Date.now() % 1e6)] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await fuzzGit(Number(seconds), Number(seed)))}\n`);
}
