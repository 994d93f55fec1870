// host-setup with stand-ins for the programs that would change this host. Each writes down how it
// was called; the packages that are `installed` stand in a file.

import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ROOT } from '../../packed.ts';
import { verifies } from '../../verifies.ts';

const NEEDED = ['bubblewrap', 'iproute2', 'nftables', 'util-linux', 'perl-base'];

interface Host extends Disposable {
  /** Runs host-setup; `answer` gives it a terminal and types that line. */
  setUp(options?: { readonly answer?: string; readonly args?: readonly string[] }): {
    readonly status: number | null;
    readonly output: string;
  };
  calls(): readonly string[];
}

function host(options: {
  readonly uid: number;
  readonly installed: readonly string[];
  readonly user?: boolean;
  /** How often apt-get install fails before it works. */
  readonly failures?: number;
}): Host {
  const folder = mkdtempSync(join(tmpdir(), 'belay-host-'));
  const file = (name: string): string => join(folder, name);
  const stub = (name: string, body: string): void => {
    writeFileSync(file(name), `#!/bin/sh\n${body}\n`);
    chmodSync(file(name), 0o755);
  };
  const log = file('calls.log');
  writeFileSync(file('installed.txt'), options.installed.join('\n'));
  writeFileSync(file('failures.txt'), '.'.repeat(options.failures ?? 0));
  for (const name of ['sh', 'env', 'uname', 'grep', 'cat', 'head', 'tr']) {
    symlinkSync(
      execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim(),
      file(name),
    );
  }
  stub('id', `echo ${options.uid}`);
  // Called as: dpkg-query -W -f FORMAT PACKAGE
  stub('dpkg-query', `grep -qx "$4" ${file('installed.txt')} && printf installed`);
  stub('getent', options.user ? 'exit 0' : 'exit 2');
  stub('useradd', `echo "useradd $*" >> ${log}`);
  stub('sudo', `echo "sudo $1" >> ${log}\nexec "$@"`);
  stub(
    'apt-get',
    `echo "apt-get $1" >> ${log}
[ "$1" = install ] || exit 0
left=$(cat ${file('failures.txt')})
[ -z "$left" ] || { printf %s "\${left#.}" > ${file('failures.txt')}; exit 100; }
echo "packages $*" >> ${log}`,
  );
  const env = { PATH: folder };
  const script = join(ROOT, 'scripts/host-setup');
  return {
    setUp({ answer, args = [] } = {}) {
      const command = ['/bin/sh', script, ...args].join(' ');
      const done =
        answer === undefined
          ? spawnSync('/bin/sh', [script, ...args], { env, encoding: 'utf8', timeout: 10_000 })
          : spawnSync('/usr/bin/script', ['-qec', command, '/dev/null'], {
              env: { ...env, SHELL: '/bin/sh' },
              encoding: 'utf8',
              input: `${answer}\n`,
              timeout: 10_000,
            });
      return { status: done.status, output: `${done.stdout}${done.stderr}` };
    },
    calls: () => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : []),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

const noTerminal = existsSync('/usr/bin/script') ? undefined : 'no `script` to make a terminal';

verifies('repo.host-setup', 'a host that has everything is left alone, quietly', () => {
  using ready = host({ uid: 1000, installed: NEEDED });
  expect(ready.setUp()).toEqual({ status: 0, output: '' });
  using readyRoot = host({ uid: 0, installed: NEEDED, user: true });
  expect(readyRoot.setUp()).toEqual({ status: 0, output: '' });
  expect([...ready.calls(), ...readyRoot.calls()]).toEqual([]);
});

verifies('repo.host-setup', 'root installs exactly what is missing and gets its two users', () => {
  using bare = host({ uid: 0, installed: ['util-linux', 'perl-base', 'nftables'] });
  expect(bare.setUp().status).toBe(0);
  const calls = bare.calls();
  expect(calls[0]).toBe('apt-get install');
  expect(calls[1]).toMatch(/ --no-install-recommends .* bubblewrap iproute2$/);
  expect(calls[2]).toMatch(/^useradd --system .* belay$/);
  expect(calls[3]).toMatch(/^useradd --system .* belay-agent$/);
  expect(calls).toHaveLength(4);
});

verifies(
  'repo.host-setup',
  'an installation that fails is tried once more with fresh lists',
  () => {
    using stale = host({ uid: 0, installed: [], user: true, failures: 1 });
    expect(stale.setUp().status).toBe(0);
    const calls = stale.calls();
    expect(calls.slice(0, 3)).toEqual(['apt-get install', 'apt-get update', 'apt-get install']);
    using broken = host({ uid: 0, installed: [], user: true, failures: 9 });
    const { status, output } = broken.setUp();
    expect(status).toBe(69);
    expect(output).toContain('belay: error: cannot install bubblewrap');
  },
);

verifies(
  'repo.host-setup',
  'without root and without a terminal it prints the line and exits 69',
  () => {
    using plain = host({ uid: 1000, installed: ['util-linux', 'perl-base'] });
    const { status, output } = plain.setUp();
    expect(status).toBe(69);
    expect(output).toBe(
      'belay: error: this host lacks bubblewrap iproute2 nftables\n' +
        'belay: hint: sudo apt-get update && ' +
        'sudo apt-get install -y --no-install-recommends bubblewrap iproute2 nftables\n',
    );
    expect(plain.calls()).toEqual([]);
  },
);

verifies('repo.host-setup', 'with --tests the programs of the tests are needed too', () => {
  using plain = host({ uid: 1000, installed: NEEDED });
  const { status, output } = plain.setUp({ args: ['--tests'] });
  expect(status).toBe(69);
  expect(output).toContain('lacks tmux strace curl git python3-minimal');
});

verifies(
  'repo.host-setup',
  'on a terminal it asks, and only a yes reaches sudo',
  () => {
    using asked = host({ uid: 1000, installed: NEEDED.slice(1) });
    expect(asked.setUp({ answer: 'n' })).toMatchObject({ status: 69 });
    expect(asked.setUp({ answer: '' })).toMatchObject({ status: 69 });
    expect(asked.calls()).toEqual([]);
    const yes = asked.setUp({ answer: 'y' });
    expect(yes.output).toContain('[y/N]');
    expect(yes.status).toBe(0);
    expect(asked.calls()[0]).toBe('sudo apt-get');
    expect(asked.calls().at(-1)).toMatch(/ bubblewrap$/);
  },
  { skip: noTerminal },
);

const PARSER = ['/sbin/apparmor_parser', '/usr/sbin/apparmor_parser'].find(existsSync);

verifies(
  ['repo.host-setup', 'host.causes'],
  'the AppArmor profile is for two tools in one folder, and the host keeps its switch',
  () => {
    const script = join(ROOT, 'packages/belay/bin/apparmor-setup');
    const profile = execFileSync('sh', [script, '--print'], { encoding: 'utf8' });
    const paths = [...profile.matchAll(/\/\S+/g)].map(([path]) => path.replace(/[>,]+$/, ''));
    expect(paths).toEqual(['/4.0', '/usr/libexec/belay/{unshare,bwrap}']);
    expect(readFileSync(script, 'utf8')).not.toMatch(/sysctl|userns *= *0|userns=0/);
    if (PARSER === undefined) return;
    const { stdout } = spawnSync(PARSER, ['--version'], { encoding: 'utf8' });
    const [, major = '0'] = /(\d+)\.\d+/.exec(stdout) ?? [];
    // Older ones do not know the rule that it is about (test/agents/apparmor.test.ts has one that does);
    // the rest has to parse everywhere.
    const text =
      Number(major) >= 4 ? profile : profile.replace('  userns,\n', '').replace(/^abi.*\n/, '');
    const checked = spawnSync(PARSER, ['-Q', '-K'], { input: text, encoding: 'utf8' });
    expect(checked.status, checked.stderr).toBe(0);
  },
);
