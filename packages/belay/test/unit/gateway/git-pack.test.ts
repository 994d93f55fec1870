// What the pack of a push shows, against git's own word: packs that git made, cut anywhere, and packs
// made by hand.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { createDeflate, deflateSync, inflateSync } from 'node:zlib';
import { afterAll, beforeAll, expect } from 'vitest';
import { applyDelta } from '../../../src/gateway/git/delta.ts';
import { follows, type Reading } from '../../../src/gateway/git/pack.ts';
import { createSlices } from '../../../src/gateway/git/proofs.ts';
import { verifies } from '../../verifies.ts';

const SHA1: Reading = { hash: 'sha1', shallow: new Set(), pause: nextTurn };

let folder: string;
/** In the order in which they were made: a line, a side branch, and a merge of both. */
const commits: string[] = [];

const env = {
  PATH: process.env.PATH,
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@example.org',
};

function git(args: readonly string[], input = ''): Buffer {
  const { status, stdout, stderr } = spawnSync('git', ['-C', folder, ...args], {
    env,
    input,
    maxBuffer: 1 << 26,
  });
  if (status !== 0) throw new Error(`git ${args.join(' ')}: ${stderr}`);
  return stdout;
}

function commit(n: number): void {
  writeFileSync(join(folder, `file-${n % 7}`), `${'line of a file\n'.repeat(n)}${n}\n`);
  git(['add', '.']);
  // Long and alike: git stores some of these as deltas of others.
  git([
    'commit',
    '--quiet',
    '-m',
    `${'the same words in every message, again and again. '.repeat(40)}${n}`,
  ]);
  commits.push(git(['rev-parse', 'HEAD']).toString().trim());
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-git-'));
  git(['init', '--quiet', '--initial-branch', 'main']);
  for (let n = 0; n < 12; n++) commit(n);
  git(['checkout', '--quiet', '-b', 'side', commits[5] as string]);
  for (let n = 20; n < 28; n++) commit(n);
  git(['checkout', '--quiet', 'main']);
  git(['merge', '--quiet', '-X', 'ours', '-m', 'merge', 'side']);
  commits.push(git(['rev-parse', 'HEAD']).toString().trim());
  // Deltas are made here, and a push reuses them.
  git(['repack', '-adfq', '--depth', '50']);
  const index = git(['rev-parse', '--git-path', 'objects/pack']).toString().trim();
  const [name = ''] = readdirSync(join(folder, index)).filter((file) => file.endsWith('.idx'));
  const listed = git(['verify-pack', '-v', join(index, name)]).toString();
  expect(listed).toMatch(/^[0-9a-f]{40} commit .* \d+ [0-9a-f]{40}$/m);
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** As `git push` makes it, of what is new in `to` for one who has `from`. */
function pack(from: string, to: string): Buffer {
  const options = ['--revs', '--thin', '--stdout', '--delta-base-offset', '-q'];
  return git(['pack-objects', ...options], `${to}\n^${from}\n`);
}

function isAncestor(from: string, to: string): boolean {
  const args = ['-C', folder, 'merge-base', '--is-ancestor', from, to];
  return spawnSync('git', args, { env }).status === 0;
}

verifies(
  'git.ancestry',
  'for every two commits, what the pack shows is what git says, also where commits are deltas',
  async () => {
    for (const [i, to] of commits.entries()) {
      for (const from of commits) {
        if (from === to || (i % 3 !== 2 && i !== commits.length - 1)) continue;
        const bytes = pack(from, to);
        const [shown] = await follows(bytes, [{ old: from, new: to }], SHA1);
        expect(shown, `${from}..${to}`).toBe(isAncestor(from, to));
      }
    }
  },
  { timeoutMs: 60_000 },
);

verifies('git.ancestry', 'a pack that is cut off shows what it shows, and never more', async () => {
  const [first = '', last = ''] = [commits[0], commits.at(-1)];
  const other = commits[13] as string;
  const bytes = pack(first, last);
  const links = [
    { old: first, new: last },
    { old: last, new: first },
    { old: last, new: other },
  ];
  for (let end = 0; end <= bytes.length; end += 97) {
    const [shown, back, aside] = await follows(bytes.subarray(0, end), links, SHA1);
    expect([back, aside], String(end)).toEqual([false, false]);
    if (shown) return; // the commits are in front, the files are not needed
  }
  throw new Error('the whole pack shows nothing');
});

/** One object of a pack: type and size, then the deflated content. */
function object(type: number, content: Buffer, said = content.length): Buffer {
  const head: number[] = [];
  let rest = said >> 4;
  head.push((type << 4) | (said & 15) | (rest > 0 ? 0x80 : 0));
  while (rest > 0) {
    head.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>= 7;
  }
  return Buffer.concat([Buffer.from(head), deflateSync(content)]);
}

const START = Buffer.from('PACK\0\0\0\x02\0\0\0\x01');
const idOf = (content: Buffer): string =>
  createHash('sha1').update(`commit ${content.length}\0`).update(content).digest('hex');
const OLD = 'a'.repeat(40);
const TREE = `tree ${'b'.repeat(40)}\n`;
const WHO = 'author a <a> 1 +0000\ncommitter a <a> 1 +0000\n';

verifies(
  'git.ancestry',
  'words of a message, other types and other ids make nobody a parent',
  async () => {
    const honest = Buffer.from(`${TREE}parent ${OLD}\n${WHO}\nm\n`);
    const shows = async (content: Buffer, type = 1, id = idOf(content)): Promise<unknown> => {
      const bytes = Buffer.concat([START, object(type, content)]);
      return (await follows(bytes, [{ old: OLD, new: id }], SHA1))[0];
    };
    expect(await shows(honest)).toBe(true);
    const lies = [
      `${TREE}${WHO}\nparent ${OLD}\n`,
      `${TREE}${WHO}parent ${OLD}\n\nm\n`,
      `parent ${OLD}\n${TREE}${WHO}\nm\n`,
      `${TREE}parent  ${OLD}\n${WHO}\nm\n`,
      `${TREE}parent ${OLD.toUpperCase()}\n${WHO}\nm\n`,
      `x${TREE}parent ${OLD}\n${WHO}\nm\n`,
      `tree ${'z'.repeat(40)}\nparent ${OLD}\n${WHO}\nm\n`,
      `tree ${'b'.repeat(40)} parent ${OLD}\n${WHO}\nm\n`,
      `${TREE}parent ${OLD}\nparent ${'z'.repeat(40)}\n${WHO}\nm\n`,
    ];
    for (const lie of lies) expect(await shows(Buffer.from(lie)), lie).toBe(false);
    expect(await shows(honest, 3)).toBe(false);
    expect(await shows(honest, 1, 'c'.repeat(40))).toBe(false);
  },
);

verifies('git.ancestry', 'nothing follows from behind a commit that is shallow', async () => {
  const [first = '', middle = '', last = ''] = [commits[0], commits[2], commits[4]];
  const bytes = pack(first, last);
  const shows = async (...shallow: readonly string[]): Promise<unknown> => {
    const links = [{ old: first, new: last }];
    return (await follows(bytes, links, { ...SHA1, shallow: new Set(shallow) }))[0];
  };
  expect(await shows()).toBe(true);
  // The client's own edge, as in every clone without its history.
  expect(await shows(first)).toBe(true);
  expect(await shows(last)).toBe(false);
  expect(await shows(middle)).toBe(false);
});

verifies('git.ancestry', 'what cannot be read is no proof, and takes no time', async () => {
  const honest = Buffer.from(`${TREE}parent ${OLD}\n${WHO}\nm\n`);
  const link = { old: OLD, new: idOf(honest) };
  const bomb = object(3, Buffer.alloc(64 << 20));
  const small = object(3, Buffer.alloc(128 << 10));
  const packs: Record<string, Buffer> = {
    empty: Buffer.alloc(0),
    'a bomb in front': Buffer.concat([START, bomb, object(1, honest)]),
    'many that are nearly too large': Buffer.concat([
      START,
      ...Array.from({ length: 200 }, () => small),
      object(1, honest),
    ]),
    'a size that is a lie': Buffer.concat([
      START,
      object(3, Buffer.alloc(50_000), 10),
      object(1, honest),
    ]),
    'a size without an end': Buffer.concat([START, Buffer.alloc(100_000, 0xff)]),
    'a base without an end': Buffer.concat([
      START,
      Buffer.from([0x61]),
      Buffer.alloc(100_000, 0xff),
    ]),
    // Each commit with a file behind it, and nothing that is looked for.
    'commits and files in turns': Buffer.concat([
      START,
      ...Array.from({ length: 5_000 }, (_, i) => [
        object(1, Buffer.from(`${TREE}${WHO}\n${i}\n`)),
        object(3, Buffer.from('x')),
      ]).flat(),
      object(1, honest),
    ]),
    'no deflate': Buffer.concat([START, Buffer.from('\x15nothing of that kind')]),
  };
  const began = performance.now();
  for (const [name, bytes] of Object.entries(packs)) {
    expect(await follows(bytes, [link], SHA1), name).toEqual([false]);
  }
  expect(performance.now() - began).toBeLessThan(2_000);
});

verifies('git.ancestry', 'a pack that would fill the memory does not', async () => {
  // One object of 256 MiB, said to be small and said to be what it is.
  const zeros = Buffer.alloc(1 << 20);
  const deflate = createDeflate({ level: 1 });
  const whole = buffer(Readable.from(Array.from({ length: 256 }, () => zeros)).pipe(deflate));
  const large = await whole;
  const packs = [object(3, Buffer.alloc(0), 10), object(3, Buffer.alloc(0), 256 << 20)].map(
    (front) => Buffer.concat([START, front.subarray(0, front.length - 8), large]),
  );
  const before = process.resourceUsage().maxRSS;
  for (const bytes of packs) {
    expect(await follows(bytes, [{ old: OLD, new: TREE }], SHA1)).toEqual([false]);
  }
  expect((process.resourceUsage().maxRSS - before) / 1024).toBeLessThan(100);
});

verifies('git.ancestry', 'commits with a crowd of parents keep nobody waiting', async () => {
  // As large as they may be before they are deflated.
  const crowd = (n: number): Buffer =>
    Buffer.from(
      `${TREE}${Array.from({ length: 2_600 }, (_, i) => `parent ${(i + n * 2_600).toString(16).padStart(40, '1')}\n`).join('')}${WHO}\nm\n`,
    );
  const crowds = Array.from({ length: 115 }, (_, n) => crowd(n));
  const last = Buffer.from(
    `${TREE}${crowds.map((one) => `parent ${idOf(one)}\n`).join('')}${WHO}\nm\n`,
  );
  const bytes = Buffer.concat([START, ...[last, ...crowds].map((one) => object(1, one))]);
  const links = Array.from({ length: 32 }, (_, i) => ({
    old: i.toString(16).padStart(40, 'e'),
    new: idOf(last),
  }));
  const { result, longestMs } = await whileWatched(() => follows(bytes, links, SHA1));
  expect(result).toEqual(links.map(() => false));
  expect(longestMs).toBeLessThan(500);
});

/** With the longest time that nothing else could go on. */
async function whileWatched<T>(
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly longestMs: number }> {
  let longestMs = 0;
  let at = performance.now();
  const timer = setInterval(() => {
    longestMs = Math.max(longestMs, performance.now() - at);
    at = performance.now();
  }, 1);
  const result = await work();
  await sleep(5);
  clearInterval(timer);
  return { result, longestMs };
}

/** A stream of so many blocks that hold nothing, about 11 bytes each. */
function emptyBlocks(count: number): Buffer {
  const bits: number[] = [];
  const put = (value: number, length: number): void => {
    for (let i = 0; i < length; i++) bits.push((value >> i) & 1);
  };
  for (let n = count; n >= 0; n--) {
    put(n === 0 ? 1 : 0, 1);
    put(2, 2); // RFC 1951 section 3.2.7: codes of its own, which are 257, 1 and 18
    for (const [value, length] of [
      [0, 5],
      [0, 5],
      [14, 4],
    ] as const) {
      put(value, length);
    }
    // In the order of the section: the codes 18 and 1 have one bit each.
    for (let i = 0; i < 18; i++) put(i === 2 || i === 17 ? 1 : 0, 3);
    for (const zeros of [138, 118]) {
      put(1, 1);
      put(zeros - 11, 7);
    }
    put(0, 2); // the end of a block, and a distance
    put(0, 1); // the end of this one
  }
  const bytes = Buffer.alloc(Math.ceil(bits.length / 8));
  for (const [i, bit] of bits.entries())
    bytes[i >> 3] = (bytes[i >> 3] as number) | (bit << (i & 7));
  return Buffer.concat([Buffer.from([0x78, 0x9c]), bytes, Buffer.from([0, 0, 0, 1])]);
}

verifies('git.ancestry', 'a stream that holds nothing is not read to its end', async () => {
  const stream = emptyBlocks(92_000);
  expect(inflateSync(stream)).toHaveLength(0);
  const honest = Buffer.from(`${TREE}parent ${OLD}\n${WHO}\nm\n`);
  const bytes = Buffer.concat([START, Buffer.from([0x30]), stream, object(1, honest)]);
  const links = [{ old: OLD, new: idOf(honest) }];
  // As many runs as a host has agents, each with a pack of its own.
  const slices = createSlices();
  const reading = { ...SHA1, pause: slices };
  const began = performance.now();
  const { result, longestMs } = await whileWatched(() =>
    Promise.all(Array.from({ length: 16 }, () => follows(bytes, links, reading))),
  );
  expect(result.flat()).toEqual(Array.from({ length: 16 }, () => false));
  expect(longestMs).toBeLessThan(200);
  expect(performance.now() - began).toBeLessThan(400);
});

verifies('git.ancestry', 'the packs of many runs are read one slice in a turn', async () => {
  // Each object is as long as it may be: small, and of blocks that hold nothing.
  const slow = Buffer.concat([Buffer.from([0x30]), emptyBlocks(80)]);
  const bytes = Buffer.concat([START, ...Array.from({ length: 800 }, () => slow)]);
  const slices = createSlices();
  let now = 0;
  let most = 0;
  const pause = async (): Promise<void> => {
    await slices();
    now += 1;
    most = Math.max(most, now);
    setImmediate(() => {
      now -= 1;
    });
  };
  const links = [{ old: OLD, new: 'c'.repeat(40) }];
  const { longestMs } = await whileWatched(() =>
    Promise.all(Array.from({ length: 16 }, () => follows(bytes, links, { ...SHA1, pause }))),
  );
  expect(most).toBe(1);
  expect(longestMs).toBeLessThan(200);
});

verifies('git.ancestry', 'a delta that does not fit its base makes nothing', () => {
  const base = Buffer.from('0123456789');
  const fits = Buffer.from([10, 6, 0x90, 4, 2, 0x78, 0x79]);
  expect(applyDelta(base, fits, 100)?.toString()).toBe('0123xy');
  const wrong = [
    [9, 6, 0x90, 4, 2, 0x78, 0x79], // another base
    [10, 7, 0x90, 4, 2, 0x78, 0x79], // another result
    [10, 6, 0x91, 8, 4, 2, 0x78, 0x79], // beyond the base
    [10, 6, 0x90, 4, 2, 0x78], // cut off
    [10, 6, 0x90, 4, 0], // an instruction that there is not
    [10, 6, 0x90],
    [],
  ];
  for (const bytes of wrong) expect(applyDelta(base, Buffer.from(bytes), 100)).toBeUndefined();
  expect(applyDelta(base, fits, 5)).toBeUndefined();
});
