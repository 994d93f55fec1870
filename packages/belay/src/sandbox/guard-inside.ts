// The program that stays inside a run's namespaces on behalf of the guard. It is started when the
// run is registered, so that a stop forks nothing, resolves nothing and mounts nothing: it waits
// for a letter. It lives in the sandbox's outer pid namespace, where an agent in a pid namespace
// below cannot see, signal or trace it. Perl, because Node has neither kill(-1) from within another
// namespace nor netlink. It trusts the first process of its pid namespace and the guard's pipe.
//
// Letters: `c` cut, `f` freeze, `t` thaw. Answers: the letter and `+` or `-`; `r+` when it is ready,
// and `w-` when something that was frozen runs again and cannot be stopped. End of input: it ends
// and leaves everything as it is, so that a dead guard thaws nothing.

/** Rounds of SIGSTOP before a run counts as resisting; both must have passed. */
const RESIST_ROUNDS = 20;
const RESIST_SECONDS = 0.5;
/** How often a frozen run is looked at: a shell's `fg`, for one, continues what it started. */
const WATCH_SECONDS = 0.1;

const INNER_GUARD = `
use strict;
$| = 1;
# The descriptors of the namespaces, now entered.
for my $fd (3 .. 5) { open(my $file, '<&=', $fd) or next; close $file }

# SIOCGIFINDEX: the index names the link even if its name changes.
socket(my $inet, 2, 2, 0) or die "no socket: $!\\n";
my $ifreq = pack('a16 x24', 'v0');
ioctl($inet, 0x8933, $ifreq) or die "no link v0 in the bridge's network namespace: $!\\n";
my $link = unpack('x16 i', $ifreq);
close $inet;
socket(my $netlink, 16, 3, 0) or die "no netlink socket: $!\\n";

# RTM_DELLINK with NLM_F_REQUEST|NLM_F_ACK; a link that is gone already (ENODEV) is cut.
sub cut {
  my $body = pack('C x S i L L', 0, 0, $link, 0, 0);
  my $sent = send($netlink, pack('L S S L L', 16 + length $body, 17, 5, 1, 0) . $body, 0);
  return 0 unless defined $sent and defined recv($netlink, my $answer, 4096, 0);
  my ($type, $error) = unpack('x4 S x10 i', $answer);
  return $type == 2 && ($error == 0 || $error == -19);
}

sub uptime { open(my $f, '<', '/proc/uptime') or return 0; return (split ' ', <$f>)[0] }

# Whether nothing in this pid namespace runs: each thread stopped (T, t), gone (Z, X) or in an
# uninterruptible sleep (D), from which the kernel returns into the pending stop.
sub gone { return $!{ENOENT} || $!{ESRCH} }
sub still {
  opendir(my $all, '/proc') or return 0;
  while (defined(my $pid = readdir $all)) {
    next if $pid !~ /^[0-9]+$/ || $pid == 1 || $pid == $$;
    opendir(my $tasks, "/proc/$pid/task") or do { next if gone(); return 0 };
    while (defined(my $tid = readdir $tasks)) {
      next if $tid !~ /^[0-9]+$/;
      open(my $f, '<', "/proc/$pid/task/$tid/stat") or do { next if gone(); return 0 };
      defined sysread($f, my $stat, 1024) or do { next if gone(); return 0 };
      return 0 unless $stat =~ /.*\\) [TtZXD] /s;
    }
  }
  return 1;
}

# One kill(-1) reaches all processes or their fork fails, but a process that is about to stop can
# still continue another. So: again, until two looks in a row, with a round between, find all still.
sub hold {
  my ($clean, $rounds, $until) = (0, 0, uptime() + ${RESIST_SECONDS});
  while ($clean < 2) {
    kill 'STOP', -1;
    if (still()) { $clean++; next }
    $clean = 0;
    return 0 if ++$rounds >= ${RESIST_ROUNDS} && uptime() > $until;
    select(undef, undef, undef, 0.001);
  }
  return 1;
}

sub say_ { syswrite(STDOUT, "$_[0]\\n") }

my $frozen = 0;
say_('r+');
while (1) {
  vec(my $ready = '', 0, 1) = 1;
  if (!select($ready, undef, undef, $frozen ? ${WATCH_SECONDS} : undef)) {
    say_('w-') unless still() || hold();
    next;
  }
  sysread(STDIN, my $letter, 1) or exit 0;
  if ($letter eq 'c') { say_(cut() ? 'c+' : 'c-') }
  elsif ($letter eq 'f') { $frozen = 1; say_(hold() ? 'f+' : 'f-') }
  elsif ($letter eq 't') { $frozen = 0; kill 'CONT', -1; say_('t+') }
}
`;

/** Enters the namespaces on descriptors 3 (user), 4 (network) and 5 (pid), takes a view of /proc of
 * its own, and becomes the inner guard. nsenter stays outside as its parent and ends with it. */
export const INNER_GUARD_COMMAND: readonly [string, ...string[]] = [
  'nsenter',
  '--user=/proc/self/fd/3',
  '--net=/proc/self/fd/4',
  '--pid=/proc/self/fd/5',
  '--preserve-credentials',
  '--',
  'unshare',
  '--mount-proc',
  '--',
  'perl',
  '-e',
  INNER_GUARD,
];
