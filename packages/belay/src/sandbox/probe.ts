// The probe: before each run, from inside its sandbox and with the agent's own rights, the escapes
// that matter most are tried. One that works refuses the run: a sandbox that silently degrades is
// worse than none. It shows that this sandbox on this host holds now; what it cannot try in a few
// milliseconds is for the tests of this repository.

import { lstatSync } from 'node:fs';
import { BelayError } from '../core/errors.ts';
import type { MaskPlan } from './masks.ts';

export interface ProbeTargets {
  /** A listener on the host's loopback that nobody may reach from inside. */
  readonly loopbackPort: number;
  /** Unix sockets of the host. */
  readonly sockets: readonly string[];
}

/** What came of one attempt. */
export interface ProbeCheck {
  readonly id: string;
  readonly held: boolean;
  readonly why: string;
}

/** Of each kind; more of the same would only take time. */
const MOST_MASKED = 16;

/** Tried before other protected names, of the workspace and of one repository in it. */
const FIRST = ['.git/hooks', '.git/config', '.git', 'belay.jsonc', 'policies', '.mcp.json'];

/** What every list has to hold, and what each kind of line adds to it. */
const ALWAYS = [
  ...['no-new-privileges', 'filter', 'capabilities', 'uid0', 'mount', 'user-namespace', 'ptrace'],
  ...['core-pattern', 'set-uid', 'processes', 'environment', 'packet-socket', 'vsock'],
];
const ASKED: Readonly<Record<string, string>> = {
  loopback: 'loopback',
  socket: 'sockets',
  folder: 'protected-names',
  file: 'protected-names',
  secret: 'secret-files',
};

/** What the probe is to try, as lines `KIND VALUE`. */
export function probeText(
  targets: ProbeTargets,
  masks: MaskPlan,
  variables: readonly string[],
): string {
  const paths = masks.readOnly.filter((path) => !path.includes('\n'));
  const first = FIRST.flatMap((name) => {
    const named = paths.filter((path) => path.endsWith(`/${name}`));
    return [...named.slice(0, 1), ...named.slice(-1)];
  });
  const masked = [...new Set([...first, ...paths])]
    .slice(0, MOST_MASKED)
    .map((path) => `${isFolder(path, masks) ? 'folder' : 'file'} ${path}`);
  const secrets = masks.shown
    .filter(({ path }) => !path.includes('\n'))
    .slice(0, MOST_MASKED)
    .map(({ path, content }) => `secret ${sumOf(content)} ${path}`);
  const lines = [
    `loopback ${targets.loopbackPort}`,
    ...targets.sockets.map((path) => `socket ${path}`),
    ...masked,
    ...secrets,
    ...variables.map((name) => `variable ${name}`),
  ];
  return lines.join('\n');
}

function isFolder(path: string, { placeholders }: MaskPlan): boolean {
  // A placeholder may not exist yet.
  const planned = placeholders.find((placeholder) => placeholder.path === path);
  if (planned !== undefined) return planned.kind === 'dir';
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Of the bytes, as Perl counts them: tells what we put there from what lies below it. */
function sumOf(content: string): number {
  return Buffer.from(content).reduce((sum, byte) => sum + byte, 0);
}

/**
 * Lines of the gate: `+ID` held, `-ID WHY` did not. Throws ERR_SANDBOX when one did not, or when the
 * gate said less than what it was asked.
 */
export function parseProbe(said: string, asked: string): readonly ProbeCheck[] {
  const checks = said
    .split('\n')
    .filter((line) => /^[+-]/.test(line))
    .map((line) => {
      const [id = '', ...why] = line.slice(1).split(' ');
      return { id, held: line.startsWith('+'), why: why.join(' ') };
    });
  const kinds = asked.split('\n').map((line) => line.slice(0, line.indexOf(' ')));
  const expected = new Set([...ALWAYS, ...kinds.flatMap((kind) => ASKED[kind] ?? [])]);
  const failed = checks.filter(({ held }) => !held);
  const unsaid = [...expected].filter((wanted) => !checks.some(({ id }) => id === wanted));
  if (failed.length > 0 || unsaid.length > 0) {
    const what = failed
      .map(({ id, why }) => `\`${id}\`${why === '' ? '' : ` (${why})`}`)
      .join(', ');
    throw new BelayError(
      'ERR_SANDBOX',
      failed.length === 0
        ? `the sandbox was not probed for \`${unsaid.join('`, `')}\``
        : `the sandbox does not hold on this host: ${what}`,
      { hint: '`belay doctor` looks at the host; please report this with its output' },
    );
  }
  return checks;
}

/** Perl: defines `probe`, which answers the lines. */
export const PROBE = `
sub probe {
  my @said;
  my $check = sub { my ($id, $held, $why) = @_; push @said, $held ? "+$id" : "-$id $why" };
  my ($mount, $unshare, $ptrace) = (uname())[4] eq 'aarch64' ? (40, 97, 117) : (165, 272, 101);
  my %status;
  if (open my $f, '<', '/proc/self/status') { while (<$f>) { /^(\\w+):\\s*(.*)$/ and $status{$1} = $2 } }
  $check->('no-new-privileges', ($status{NoNewPrivs} // '') eq '1', 'not set');
  $check->('filter', ($status{Seccomp} // '') eq '2', 'no system call filter');
  $check->('capabilities', !grep({ ($status{$_} // 'x') !~ /^0+$/ } qw(CapInh CapPrm CapEff CapBnd CapAmb)), 'some are left');
  $check->('uid0', $< != 0 && $> != 0 && !defined setuid(0), 'root inside');
  my ($none, $tmp, $type) = ("none\\0", "/tmp\\0", "tmpfs\\0");
  $check->('mount', syscall($mount, $none, $tmp, $type, 0, 0) != 0, 'a mount was made');
  $check->('user-namespace', syscall($unshare, 0x10000000) != 0, 'one was made');
  $check->('ptrace', syscall($ptrace, 16, 1, 0, 0) != 0 && $!{EPERM}, 'not refused');
  $check->('core-pattern', !open(my $core, '>>', '/proc/sys/kernel/core_pattern'), 'can be written');
  # Other runs may share this home.
  open my $random, '<', '/dev/urandom' or return ('-home no randomness');
  sysread $random, my $name, 8;
  my $set = "$ENV{HOME}/.belay-probe-" . unpack('H*', $name);
  if (sysopen my $f, $set, O_WRONLY | O_CREAT | O_EXCL, 0600) {
    $check->('set-uid', !chmod(04755, $set), 'a set-uid file was made');
    unlink $set;
  } else { $check->('home', 0, "cannot be written: $!") }
  opendir(my $processes, '/proc') or return ('-processes cannot be read');
  my @others = grep { /^[0-9]+$/ } readdir $processes;
  $check->('processes', @others <= 3, scalar(@others) . ' are visible');
  my %known = map { $_ => 1 } qw(PWD SHLVL OLDPWD _);
  my ($names, $secrets, $sockets) = (0, 0, 0);
  for (@_) {
    my ($kind, $value) = split / /, $_, 2;
    if ($kind eq 'variable') { $known{$value} = 1 }
    elsif ($kind eq 'loopback') {
      socket(my $s, AF_INET, SOCK_STREAM, 0);
      $check->('loopback', !connect($s, pack_sockaddr_in($value, inet_aton('127.0.0.1'))), 'reached');
    } elsif ($kind eq 'socket') {
      socket(my $s, AF_UNIX, SOCK_STREAM, 0);
      $check->('socket', 0, "$value was reached") if connect($s, pack_sockaddr_un($value));
      $sockets++;
    } elsif ($kind eq 'folder') {
      if (sysopen my $f, "$value/.belay-probe", O_WRONLY | O_CREAT | O_EXCL, 0600) {
        unlink "$value/.belay-probe";
        $check->('protected', 0, "$value can be written");
      } elsif ($!{ENOENT}) { $check->('protected', 0, "$value is not there") }
      $names++;
    } elsif ($kind eq 'file') {
      if (sysopen my $f, $value, O_WRONLY | O_APPEND | O_NONBLOCK) { $check->('protected', 0, "$value can be written") }
      elsif ($!{ENOENT}) { $check->('protected', 0, "$value is not there") }
      $names++;
    } elsif ($kind eq 'secret') {
      my ($sum, $path) = split / /, $value, 2;
      my $shown = '';
      if (sysopen(my $f, $path, O_RDONLY | O_NONBLOCK) && -f $path) { local $/; $shown = unpack '%32C*', <$f> // '' }
      $check->('secret', 0, "$path shows what it holds") if $shown ne $sum;
      $check->('secret', 0, "$path can be written") if sysopen my $f, $path, O_WRONLY | O_APPEND | O_NONBLOCK;
      $secrets++;
    }
  }
  $check->('sockets', 1, '') if $sockets;
  $check->('protected-names', 1, '') if $names;
  $check->('secret-files', 1, '') if $secrets;
  my @strange = grep { !$known{$_} } keys %ENV;
  $check->('environment', !@strange, join ' ', map { s/[^A-Za-z0-9_]/?/gr } @strange);
  $check->('packet-socket', !socket(my $packet, 17, 3, 0), 'was made');
  $check->('vsock', !socket(my $vsock, 40, 1, 0), 'was made');
  return @said;
}
`;
