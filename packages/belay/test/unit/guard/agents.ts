// Agents that fight: Perl programs that append a dot to the file `out` for as long as they run.

/** Every process replaces itself all the time, in sessions of its own. */
export const FORK_STORM = `
open(my $out, '>>', 'out') or die;
for (1 .. 6) {
  next if fork;
  require POSIX; POSIX::setsid();
  while (1) { my $pid = fork; exit 0 if $pid; syswrite $out, '.' if defined $pid }
}
sleep 1000;
`;

/** Many processes that continue whatever somebody stopped. */
export const CONTINUE_STORM = `
open(my $out, '>>', 'out') or die;
for (1 .. 8) { next if fork; while (1) { kill 'CONT', -1; syswrite $out, '.' } }
sleep 1000;
`;

/** Kills whatever it can see or guess, as fast as it can. */
export const KILLER = `
open(my $out, '>>', 'out') or die;
$SIG{CHLD} = 'IGNORE';
my $mate = fork;
while (1) {
  kill 'KILL', grep { $_ != $$ && $_ != ($mate || getppid) } 2 .. 60;
  syswrite $out, '.';
}
`;

/** Writes now and then. */
export const WRITER = `
open(my $out, '>>', 'out') or die;
while (1) { syswrite $out, '.'; select(undef, undef, undef, 0.002) }
`;

/** A shell that starts commands through vfork: the parent sleeps until its child has moved on. */
export const VFORK_LOOP = `exec 'sh', '-c', 'while :; do /bin/true; printf . >> out; done'`;
