// The few system calls that Node lacks, made by perl-base, which is essential on Debian and Ubuntu.
// The programs are text, run as `perl -e TEXT ARGUMENTS`, and each ends by becoming the next program
// of its chain. They run before any agent does, see no input of an agent, and fail with one line on
// stderr that starts with `belay:` and status 69.

import { PROBE } from './probe.ts';

// Numbers of unshare, mount, prctl and setns per machine; the newer calls have one number everywhere.
const PRELUDE = `use strict; use POSIX ();
sub fail { print STDERR "belay: $_[0]\\n"; POSIX::_exit(69) }
my $machine = (POSIX::uname())[4];
my ($UNSHARE, $MOUNT, $PRCTL, $SETNS) = $machine eq 'x86_64' ? (272, 165, 157, 308)
  : $machine eq 'aarch64' ? (97, 40, 167, 268) : fail("machine $machine is not supported");
my ($OPEN_TREE, $MOVE_MOUNT, $MOUNT_SETATTR) = (428, 429, 442);
sub die_with_parent { syscall($PRCTL, 1, 9, 0, 0, 0) == 0 or fail("prctl: $!") }
# What the caller's shell had open is nobody's here.
sub close_from {
  opendir my $all, '/proc/self/fd' or fail("/proc/self/fd: $!");
  my @open = grep { /^[0-9]+$/ && $_ >= $_[0] } readdir $all;
  closedir $all;
  POSIX::close($_) for @open;
}
sub become { no warnings; exec { $_[0] } @_; fail("exec $_[0]: $!") }
`;

/**
 * In the bridge's namespaces: leaves the transparent listener on descriptor 3, starts the process
 * that holds the agent's network namespace (it dies with the bridge, through a pipe whose other end
 * is the bridge's descriptor 4), and becomes the bridge. Arguments: PORT PROGRAM ARGUMENTS...; the
 * holder's pid is added as the last argument.
 */
export const HOLD_AND_LISTEN = `${PRELUDE}
use Socket qw(:all); $^F = 1000;
my ($port, @next) = @ARGV;
die_with_parent();
pipe(my $life, my $bridge) or fail("pipe: $!");
pipe(my $up, my $said) or fail("pipe: $!");
my $holder = fork() // fail("fork: $!");
if ($holder == 0) {
  close $bridge; close $up;
  POSIX::close($_) for 0, 1;
  die_with_parent();
  syscall($UNSHARE, 0x40000000) == 0 or fail("network namespace: $!");
  if (open my $f, '>', '/proc/sys/net/ipv4/ip_unprivileged_port_start') { syswrite $f, "0\\n"; close $f }
  syswrite $said, "up"; close $said;
  sysread $life, my $byte, 1;
  POSIX::_exit(0);
}
close $life; close $said;
sysread($up, my $word, 2) == 2 or POSIX::_exit(69);
close $up;
socket(my $s, AF_INET6, SOCK_STREAM, 0) or fail("ipv6: $!");
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1) or fail("SO_REUSEADDR: $!");
setsockopt($s, 41, 26, 0) or fail("IPV6_V6ONLY: $!");
setsockopt($s, 41, 75, 1) or fail("IPV6_TRANSPARENT: $!");
setsockopt($s, 0, 19, 1) or fail("IP_TRANSPARENT: $!");
bind($s, pack_sockaddr_in6($port, inet_pton(AF_INET6, '::'))) or fail("bind: $!");
listen($s, 1024) or fail("listen: $!");
my ($listener, $lifeline) = (POSIX::dup(fileno $s), POSIX::dup(fileno $bridge));
while ($listener < 5 or $lifeline < 5) {
  $listener = POSIX::dup($listener) if $listener < 5;
  $lifeline = POSIX::dup($lifeline) if $lifeline < 5;
}
POSIX::dup2($listener, 3); POSIX::dup2($lifeline, 4);
close_from(5);
become(@next, $holder);
`;

/**
 * Joins the agent's cgroups and, for root, moves what the sandbox is made of to places that another
 * uid can reach: in a private mount namespace, each source is bound at /tmp/belay/N, those marked
 * \`map\` with the ids 0 on disk and UID exchanged. Arguments: UID GID COUNT CGROUP... COUNT (KIND SOURCE)...
 * PROGRAM ARGUMENTS...
 */
export const JOIN_AND_STAGE = `${PRELUDE}
my ($uid, $gid, $joins) = splice @ARGV, 0, 3;
my @cgroups = splice @ARGV, 0, $joins;
my $count = shift @ARGV;
my @sources = splice @ARGV, 0, 2 * $count;
for my $cgroup (@cgroups) {
  open my $f, '>', "$cgroup/cgroup.procs" or fail("cgroup $cgroup: $!");
  syswrite $f, "$$\\n" or fail("cgroup $cgroup: $!");
  close $f;
}
if ($count > 0) {
  my ($empty, $root, $tmp, $type, $mode) = ("\\0", "/\\0", "/tmp\\0", "tmpfs\\0", "mode=755\\0");
  syscall($UNSHARE, 0x20000) == 0 or fail("mount namespace: $!");
  syscall($MOUNT, $type, $root, $empty, 0x44000, 0) == 0 or fail("private mounts: $!");
  my $mapping;
  my @trees;
  while (my ($kind, $source) = splice @sources, 0, 2) {
    my $path = "$source\\0";
    my $plain = $kind eq 'bind' ? 0x8000 : 0;
    my $tree = syscall($OPEN_TREE, -100, $path, 0x80001 | $plain);
    fail("open $source: $!") if $tree < 0;
    if ($kind eq 'map') {
      $mapping //= user_namespace();
      my $attributes = pack('Q4', 0x100000, 0, 0, fileno $mapping);
      syscall($MOUNT_SETATTR, $tree, $empty, 0x1000, $attributes, 32) == 0
        or fail("idmap $source: $!");
    }
    push @trees, [$tree, -d $source];
  }
  syscall($MOUNT, $type, $tmp, $type, 6, $mode) == 0 or fail("stage: $!");
  mkdir '/tmp/belay', 0755 or fail("stage: $!");
  for my $n (0 .. $#trees) {
    my ($tree, $folder) = @{$trees[$n]};
    my $at = "/tmp/belay/$n";
    if ($folder) { mkdir $at, 0755 or fail("stage $n: $!") }
    else { open my $f, '>', $at or fail("stage $n: $!"); close $f }
    my $to = "$at\\0";
    syscall($MOVE_MOUNT, $tree, $empty, -100, $to, 4) == 0 or fail("stage $n: $!");
    POSIX::close($tree);
  }
}
become(@ARGV);

sub user_namespace {
  pipe(my $hold, my $mine) or fail("pipe: $!");
  pipe(my $up, my $said) or fail("pipe: $!");
  my $child = fork() // fail("fork: $!");
  if ($child == 0) {
    close $mine; close $up;
    syscall($UNSHARE, 0x10000000) == 0 or fail("user namespace: $!");
    syswrite $said, "up";
    sysread $hold, my $byte, 1;
    POSIX::_exit(0);
  }
  close $hold; close $said;
  sysread($up, my $word, 2) == 2 or POSIX::_exit(69);
  for (['uid_map', $uid], ['gid_map', $gid]) {
    open my $f, '>', "/proc/$child/$_->[0]" or fail("idmap: $!");
    syswrite $f, "0 $_->[1] 1\\n" or fail("idmap: $!");
    close $f or fail("idmap: $!");
  }
  open my $namespace, '<', "/proc/$child/ns/user" or fail("idmap: $!");
  close $mine;
  waitpid $child, 0;
  return $namespace;
}
`;

/**
 * As the agent's uid, before the sandbox exists: makes the placeholders that keep protected names
 * from being created. What is there already stays. Then closes every descriptor from FIRST on.
 * Arguments: FIRST COUNT (KIND PATH CONTENT)... PROGRAM ARGUMENTS...
 */
export const PLACE = `${PRELUDE}
use Fcntl;
my ($first, $count) = splice @ARGV, 0, 2;
for (1 .. $count) {
  my ($kind, $path, $content) = splice @ARGV, 0, 3;
  if ($kind eq 'dir') { mkdir $path, 0755 or $!{EEXIST} or fail("placeholder $path: $!"); next }
  if (sysopen my $f, $path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644) {
    syswrite $f, $content; close $f or fail("placeholder $path: $!");
  } else { $!{EEXIST} or fail("placeholder $path: $!") }
}
close_from($first);
# The terminal's keys are for the command. bwrap would die of them; the gate takes this back.
$SIG{$_} = 'IGNORE' for qw(INT QUIT);
become(@ARGV);
`;

/**
 * Covers names of a sandbox, in its own mount namespace (descriptor 4), entered through its user
 * namespace (descriptor 3) unless the caller is root. An agent may race it: a link is never followed,
 * and what is mounted is what was opened. Argument: \`enter\` or \`stay\`; on stdin KIND and PATH, each
 * ended by a NUL: \`close\` read-only, \`pin\` writable, \`hide\` behind the null device. Says for each
 * the device and inode that stand there now.
 */
export const COVER = `${PRELUDE}
use Fcntl qw(:DEFAULT :mode);
my $empty = "\\0";
my @wishes = do { local $/; split /\\0/, <STDIN> // '' };
syscall($SETNS, 3, 0x10000000) == 0 or fail("user namespace: $!") if shift @ARGV eq 'enter';
syscall($SETNS, 4, 0x20000) == 0 or fail("mount namespace: $!");
my $O_PATH = 0x200000;
sysopen my $null, '/dev/null', $O_PATH or fail("/dev/null: $!");
while (my ($kind, $path) = splice @wishes, 0, 2) {
  sysopen my $at, $path, $O_PATH | O_NOFOLLOW or fail("$path: $!");
  my $mode = (stat $at)[2] // fail("$path: $!");
  S_ISREG($mode) || S_ISDIR($mode) || $kind eq 'hide' && !S_ISLNK($mode) or fail("$path: a link, or neither a file nor a folder");
  my ($below, $attr) = $kind eq 'pin' ? (0x8000, 6) : (0, 7);
  my $source = $kind eq 'hide' ? $null : $at;
  my ($device, $inode) = stat $source or fail("$path: $!");
  my $tree = syscall($OPEN_TREE, fileno $source, $empty, 0x81001 | $below);
  fail("$path: $!") if $tree < 0;
  my $attributes = pack('Q4', $attr, 0, 0, 0);
  syscall($MOUNT_SETATTR, $tree, $empty, 0x1000, $attributes, 32) == 0 or fail("$path: $!");
  syscall($MOVE_MOUNT, $tree, $empty, fileno $at, $empty, 0x44) == 0 or fail("$path: $!");
  POSIX::close($tree);
  syswrite STDOUT, "$device:$inode\\n" or fail("$path: $!");
}
POSIX::_exit(0);
`;

/**
 * Inside the sandbox, its first program: says on descriptor GATE that it is up, puts the files of a
 * profile into the home (where a link leads to nothing of the host), reads from GATE what to probe up
 * to an empty line, says there what came of it and that the sandbox is ready, waits for one line, and
 * only on `go` becomes the command, with its own stderr from descriptor STDERR and none of FIRST to
 * STDERR. Anything else, and the end of input, is 69. Arguments: GATE STDERR FIRST FILES COUNT (WHEN
 * PATH)... COMMAND ARGUMENTS...; the content of file N is FILES-N.
 */
export const GATE = `use strict; use Errno; use Fcntl; use POSIX qw(uname setuid); use Socket qw(:all);
${PROBE}
my ($gate, $stderr, $first, $files, $count) = splice @ARGV, 0, 5;
open my $launcher, '+<&=', $gate or exit 69;
syswrite $launcher, "up\\n";
for my $n (0 .. $count - 1) {
  my ($when, $path) = splice @ARGV, 0, 2;
  my ($folder, @parts) = ($ENV{HOME}, split '/', $path);
  my $name = pop @parts;
  for (@parts) { $folder .= "/$_"; mkdir $folder, 0700 }
  next if $when eq 'missing' && lstat "$folder/$name";
  open my $from, '<', "$files-$n" or next;
  # A home that an agent made unfit for this is its own loss.
  unlink "$folder/$name";
  open my $to, '>', "$folder/$name" or next;
  print $to do { local $/; <$from> };
}
my @command = @ARGV;
$SIG{$_} = 'DEFAULT' for qw(INT QUIT);
sub line { my $line = ''; while ($line !~ /\\n/) { sysread $launcher, $line, 1, length $line or exit 69 } chomp $line; $line }
my @list;
while ((my $line = line()) ne '') { push @list, $line }
my @tried = @list ? probe(@list) : ();
syswrite $launcher, join('', map { "$_\\n" } @tried, 'ready') or exit 69;
line() eq 'go' or exit 69;
open STDERR, '>&', $stderr or exit 69;
for ($first .. $stderr) { my $f; close $f if $_ != $gate && open $f, '<&=', $_ }
close $launcher;
{ no warnings; exec { $command[0] } @command }
my $status = $!{ENOENT} ? 127 : 126;
print STDERR "belay: cannot run $command[0]: $!\n";
exit $status;
`;

/**
 * In the agent's network namespace and outside everything else of it: joins stdin and stdout with a
 * port on that namespace's loopback, each direction by a process of its own. Arguments: PORT.
 */
export const RELAY = `use strict; use Socket qw(:all);
my $port = shift;
my $s;
for ([AF_INET, pack_sockaddr_in($port, inet_pton(AF_INET, '127.0.0.1'))],
     [AF_INET6, pack_sockaddr_in6($port, inet_pton(AF_INET6, '::1'))]) {
  socket($s, $_->[0], SOCK_STREAM, 0) or exit 69;
  last if connect $s, $_->[1];
  undef $s;
}
defined $s or exit 69;
sub copy {
  my ($from, $to) = @_;
  while (sysread $from, my $bytes, 65536) {
    for (my $at = 0; $at < length $bytes; ) {
      my $put = syswrite $to, $bytes, 65536, $at;
      defined $put or return;
      $at += $put;
    }
  }
}
$SIG{PIPE} = 'IGNORE';
my $child = fork() // exit 69;
if ($child == 0) { close STDIN; copy($s, \\*STDOUT); exit 0 }
close STDOUT;
copy(\\*STDIN, $s);
shutdown $s, 1;
waitpid $child, 0;
`;
