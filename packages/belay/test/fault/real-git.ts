// Real git on both sides: repositories that are the same on every machine, the bodies of pushes to them
// as `git push` says them, and what `git receive-pack` makes of a body. It is asked before any ref is
// changed, and then refused, so that every body meets the same repository.

import { spawnSync } from 'node:child_process';
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { scratch } from '../system/upstreams.ts';

export type Hash = 'sha1' | 'sha256';

/** A command as git hands it to the hook; ids as git says them, of zeros where there is none. */
export interface Asked {
  readonly old: string;
  readonly new: string;
  readonly ref: string;
  /** Undefined: git has not all commits of the two, or there are none. */
  readonly follows: boolean | undefined;
}

export interface Received {
  readonly asked: readonly Asked[];
  /** Of every ref that git read a command for, what it says of it, when it says so. */
  readonly reported: ReadonlyMap<string, string> | undefined;
}

export interface RealPush {
  readonly name: string;
  readonly hash: Hash;
  readonly body: Buffer;
  /** What it does to its refs, by their names. */
  readonly changes: Readonly<Record<string, 'create' | 'fast-forward' | 'unproven' | 'delete'>>;
}

export interface RealGit extends Disposable {
  readonly pushes: readonly RealPush[];
  /** Every commit that one of the pushes is about, and some besides. */
  readonly ids: readonly string[];
  receive(body: Buffer, hash: Hash): Received;
  refs(): string;
}

/** Of a command that would have been carried out: nothing but the hook was against it. */
export const HOOK_ALONE = 'pre-receive hook declined';

const TIMEOUT_MS = 20_000;
/** Notes each command, and whether it is a fast-forward to git; then refuses them all. */
const HOOK = `#!/bin/sh
while read -r old new ref; do
  follows=128
  case " $old $new" in
    *' 00000000'*) ;;
    *) git merge-base --is-ancestor "$old" "$new" 2>/dev/null; follows=$? ;;
  esac
  # Where a commit is missing git walks around it.
  if [ $follows = 1 ]; then
    git rev-list --objects --quiet "$new" --not --all 2>/dev/null || follows=128
  fi
  echo "$follows $old $new $ref" >>"$ASKED"
done
exit 1
`;
/** Stands where the server's program stands, and keeps what it is told. */
const TEE = `#!/bin/sh
tee "$BODY" | git $SERVER_OPTIONS receive-pack "$1"
`;

/** `main`: a line of commits whose messages are alike. Beside it branches that it has, and has not. */
const WORK = `
commit() {
  echo "$1" >"file-$(($1 % 3))"
  git add .
  { for i in 1 2 3 4 5 6 7 8; do echo "the same words in every message, line $i"; done; echo "$1"; } |
    git commit -q -F -
}
git checkout -q -b main
for n in 1 2 3 4; do commit $n; done
git branch old HEAD~2; git branch base
git checkout -q -b side HEAD~1; commit 20; commit 21
git branch side-base HEAD~1
git checkout -q -b other old; commit 30
git checkout -q main; commit 5; commit 6
git checkout -q -b long; for n in 7 8 9 10 11 12; do commit $n; done
git checkout -q -b merged main; git merge -q -X ours -m merge side
git tag -a -m 'a tag' v1 main
`;
const SERVER_REFS = 'base:main base:victim old:agent/old old:agent/slow side-base:agent/side';

interface Told {
  readonly name: string;
  readonly arguments: string;
  readonly changes: RealPush['changes'];
  /** Of the server's git. */
  readonly options?: string;
}

const REFS = 'refs/heads';
const PUSHES: readonly Told[] = [
  { name: 'create', arguments: 'side:agent/new', changes: { [`${REFS}/agent/new`]: 'create' } },
  { name: 'tag', arguments: 'v1', changes: { 'refs/tags/v1': 'create' } },
  { name: 'fast-forward', arguments: 'main', changes: { [`${REFS}/main`]: 'fast-forward' } },
  { name: 'merge', arguments: 'merged:main', changes: { [`${REFS}/main`]: 'fast-forward' } },
  { name: 'force', arguments: '+other:main', changes: { [`${REFS}/main`]: 'unproven' } },
  { name: 'backwards', arguments: '+old:main', changes: { [`${REFS}/main`]: 'unproven' } },
  { name: 'delete', arguments: ':victim', changes: { [`${REFS}/victim`]: 'delete' } },
  {
    name: 'several',
    arguments: '--atomic main +other:agent/side :victim v1 side:agent/new',
    changes: {
      [`${REFS}/agent/new`]: 'create',
      [`${REFS}/agent/side`]: 'unproven',
      [`${REFS}/main`]: 'fast-forward',
      [`${REFS}/victim`]: 'delete',
      'refs/tags/v1': 'create',
    },
  },
  { name: 'deltas', arguments: 'long:main', changes: { [`${REFS}/main`]: 'fast-forward' } },
  {
    name: 'deltas-by-id',
    arguments: 'long:main',
    options: '-c repack.useDeltaBaseOffset=false',
    changes: { [`${REFS}/main`]: 'fast-forward' },
  },
];
const SHALLOW: Told = {
  name: 'shallow',
  arguments: 'HEAD:main',
  changes: { [`${REFS}/main`]: 'fast-forward' },
};

export function createRealGit(): RealGit {
  const { path: home, put, [Symbol.dispose]: remove } = scratch();
  const hook = put('hook', HOOK);
  const tee = put('tee', TEE);
  for (const program of [hook, tee]) chmodSync(program, 0o755);
  const body = join(home, 'body');
  const asked = join(home, 'asked');
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_AUTHOR_NAME: 'Some',
    GIT_AUTHOR_EMAIL: 'some@one.example',
    GIT_AUTHOR_DATE: '1700000000 +0000',
    GIT_COMMITTER_NAME: 'Some',
    GIT_COMMITTER_EMAIL: 'some@one.example',
    GIT_COMMITTER_DATE: '1700000000 +0000',
    ASKED: asked,
    BODY: body,
  };
  const sh = (script: string, more: Readonly<Record<string, string>> = {}): string => {
    const options = { env: { ...env, ...more }, encoding: 'utf8', timeout: TIMEOUT_MS } as const;
    const { status, stdout, stderr } = spawnSync('sh', ['-ec', script], options);
    if (status !== 0) throw new Error(`${script}: ${stderr}`);
    return stdout;
  };
  const server = (hash: Hash): string => join(home, `${hash}.git`);

  const pushOf = (work: string, hash: Hash, { name, arguments: refs, options = '' }: Told) => {
    rmSync(body, { force: true });
    // The hook refuses every push.
    sh(`cd ${work}; ! git push -q --receive-pack=${tee} file://${server(hash)} ${refs}`, {
      SERVER_OPTIONS: options,
    });
    return { name: hash === 'sha1' ? name : `${name}-${hash}`, hash, body: readFileSync(body) };
  };
  const pushesOf = (hash: Hash): RealPush[] => {
    const work = join(home, `work-${hash}`);
    sh(`git init -q --object-format=${hash} ${work}; cd ${work}\n${WORK}`);
    const refs = SERVER_REFS.split(' ').map((ref) => ref.replace(':', `:${REFS}/`));
    sh(`git init -q --bare -b main --object-format=${hash} ${server(hash)}`);
    sh(`cd ${work}; git push -q ${server(hash)} ${refs.join(' ')}`);
    sh(`cp ${hook} ${server(hash)}/hooks/pre-receive`);
    // Deltas are made here, and a push sends them on.
    sh(`cd ${work}; git repack -adfq --depth 50`);
    const pushes = PUSHES.map((told) => ({ ...pushOf(work, hash, told), changes: told.changes }));
    const shallow = join(home, `shallow-${hash}`);
    sh(`git clone -q --depth 1 file://${server(hash)} ${shallow}; cd ${shallow}
      echo shallow >file; git add .; git commit -q -m shallow`);
    return [...pushes, { ...pushOf(shallow, hash, SHALLOW), changes: SHALLOW.changes }];
  };

  try {
    const pushes = [...pushesOf('sha1'), ...pushesOf('sha256')];
    const works = [join(home, 'work-sha1'), join(home, 'work-sha256')];
    const ids = works.flatMap((work) => sh(`git -C ${work} rev-list --all`).trim().split('\n'));
    return {
      pushes,
      ids,
      receive(bytes, hash) {
        rmSync(asked, { force: true });
        const { stdout, error } = spawnSync(
          'git',
          ['receive-pack', '--stateless-rpc', server(hash)],
          { env, input: bytes, timeout: TIMEOUT_MS, maxBuffer: 1 << 24 },
        );
        // It may end before it has read everything.
        if (error !== undefined && !/EPIPE/.test(error.message)) throw error;
        return { asked: linesOf(asked).map(askedIn), reported: reportIn(stdout) };
      },
      refs: () =>
        ['sha1', 'sha256'].map((hash) => sh(`git -C ${home}/${hash}.git show-ref`)).join(''),
      [Symbol.dispose]: remove,
    };
  } catch (error) {
    remove();
    throw error;
  }
}

function linesOf(path: string): readonly string[] {
  try {
    return readFileSync(path, 'latin1').split('\n').slice(0, -1);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function askedIn(line: string): Asked {
  const [, status, old = '', id = '', ref = ''] = /^(\d+) (\S+) (\S+) (.*)$/.exec(line) ?? [];
  return { old, new: id, ref, follows: status === '0' ? true : status === '1' ? false : undefined };
}

/** The refs of report-status, alone or in the first band of several. */
function reportIn(stdout: Buffer): ReadonlyMap<string, string> | undefined {
  const outer = packetsIn(stdout);
  const banded = outer.filter((packet) => packet[0] === 1).map((packet) => packet.subarray(1));
  const lines = banded.length > 0 ? packetsIn(Buffer.concat(banded)) : outer;
  const texts = lines.map((line) => line.toString('latin1').replace(/\n$/, ''));
  if (!texts.some((text) => text.startsWith('unpack '))) return undefined;
  const found = texts.map((text) => /^(?:ok|ng) (\S+) ?(.*)$/.exec(text) ?? []);
  return new Map(found.flatMap(([, ref, why = '']) => (ref === undefined ? [] : [[ref, why]])));
}

function packetsIn(bytes: Buffer): readonly Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const size = Number.parseInt(bytes.toString('latin1', at, at + 4), 16);
    if (Number.isNaN(size)) break;
    if (size > 4) found.push(bytes.subarray(at + 4, at + size));
    at += Math.max(4, size);
  }
  return found;
}
