// What the probe asks for, what it takes for an answer, and that its attempts can succeed: here
// nothing holds them, and as an ordinary user they must.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import type { MaskPlan } from '../../../src/sandbox/masks.ts';
import { PROBE, parseProbe, probeText } from '../../../src/sandbox/probe.ts';
import { ORDINARY_UID } from '../../installed.ts';
import { verifies } from '../../verifies.ts';

const TARGETS = { loopbackPort: 9, sockets: ['/run/x.sock'] };
const NOTHING: MaskPlan = { pins: [], readOnly: [], placeholders: [], shown: [], closed: [] };
const ALWAYS = [
  ...['no-new-privileges', 'filter', 'capabilities', 'uid0', 'mount', 'user-namespace', 'ptrace'],
  ...['core-pattern', 'set-uid', 'processes', 'environment', 'packet-socket', 'vsock'],
];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belay-probe-'));
  chmodSync(folder, 0o777);
});
afterEach(() => rmSync(folder, { recursive: true }));

function put(name: string, text: string, mode = 0o666): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** The probe outside any sandbox, as an ordinary user: what it says of these lines. */
function probed(lines: string): readonly string[] {
  const program = `use strict; use Errno; use Fcntl; use POSIX qw(uname setuid); use Socket qw(:all);
${PROBE}
print map { "$_\n" } probe(split /\n/, $ARGV[0]);`;
  const { uid, gid } = { uid: ORDINARY_UID, gid: ORDINARY_UID };
  const as = process.getuid?.() === 0 ? { uid, gid } : {};
  const { stdout, stderr } = spawnSync('perl', ['-e', program, '--', lines], {
    ...as,
    env: { HOME: folder, PATH: '/usr/bin:/bin' },
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  return stdout.split('\n');
}

verifies(
  'probe.refuses',
  'a gate that leaves out any one of the attempts is refused, and so is one that says nothing',
  () => {
    const asked = probeText(
      TARGETS,
      { ...NOTHING, readOnly: ['/w/.npmrc'], shown: [{ path: '/w/.env', content: '' }] },
      ['HOME'],
    );
    const all = [...ALWAYS, 'loopback', 'sockets', 'protected-names', 'secret-files'];
    const saying = (ids: readonly string[]) => ids.map((id) => `+${id}\n`).join('');
    expect(parseProbe(`${saying(all)}ready\n`, asked).map(({ id }) => id)).toEqual(all);
    for (const left of all) {
      const rest = saying(all.filter((id) => id !== left));
      expect(() => parseProbe(`${rest}ready\n`, asked)).toThrow(`not probed for \`${left}\``);
    }
    expect(() => parseProbe('ready\n', asked)).toThrow('not probed for');
    // What was not asked need not be answered.
    const less = probeText({ loopbackPort: 9, sockets: [] }, NOTHING, []);
    expect(() => parseProbe(saying([...ALWAYS, 'loopback']), less)).not.toThrow();
    const broken = saying(all).replace('+filter', '-filter no system call filter');
    expect(() => parseProbe(broken, asked)).toThrow('does not hold on this host: `filter` (no');
  },
);

verifies(
  'probe.refuses',
  'among many protected names those that run code first are tried, here and in a repository below',
  () => {
    const names = Array.from({ length: 40 }, (_, i) => `/w/.tool-${i}`);
    const first = ['.git/hooks', '.git/config', 'belay.jsonc', 'policies', '.mcp.json'];
    const readOnly = [...names, ...first.map((name) => `/w/${name}`), '/w/sub/.git/hooks'];
    const asked = probeText(TARGETS, { ...NOTHING, readOnly }, []).split('\n');
    for (const name of [...first, 'sub/.git/hooks']) expect(asked).toContain(`file /w/${name}`);
    expect(asked.filter((line) => line.startsWith('file ')).length).toBeLessThan(20);
  },
);

verifies(
  'probe.refuses',
  'a protected name that can be written or is missing, and a secret that shows, are told',
  () => {
    mkdirSync(join(folder, 'hooks'));
    chmodSync(join(folder, 'hooks'), 0o777);
    const open = put('config', '');
    const env = put('.env', 'KEY=value\n');
    const closed = put('.env.local', 'KEY=\n', 0o444);
    const masks = (readOnly: readonly string[], shown: MaskPlan['shown']) =>
      probed(probeText(TARGETS, { ...NOTHING, readOnly, shown }, ['HOME', 'PATH']));

    const said = masks(
      [join(folder, 'hooks'), open, join(folder, 'gone')],
      [{ path: env, content: 'KEY=\n' }],
    );
    expect(said).toEqual(
      expect.arrayContaining([
        `-protected ${folder}/hooks can be written`,
        `-protected ${open} can be written`,
        `-protected ${folder}/gone is not there`,
        `-secret ${env} shows what it holds`,
        `-secret ${env} can be written`,
      ]),
    );
    const held = masks(['/usr', '/etc/passwd'], [{ path: closed, content: 'KEY=\n' }]);
    expect(held).toEqual(expect.arrayContaining(['+protected-names', '+secret-files']));
    expect(held.filter((line) => /^-(?:secret|protected)/.test(line))).toEqual([]);
    // A pipe in its place tells whoever writes to it.
    rmSync(closed);
    spawnSync('mkfifo', ['-m', '444', closed]);
    expect(masks([], [{ path: closed, content: '' }])).toContain(
      `-secret ${closed} shows what it holds`,
    );
  },
);
