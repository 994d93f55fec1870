# A program that leaves: its grandchild, in a session of its own and with the first process for a
# parent, outlasts what ended the rest. Each of them adds a line with its name to a file every 20 ms;
# `leave` ends the first one at once, else it stays.
#
#   perl leaver.pl FILE [leave]

use strict;
use POSIX ();
use IO::Handle;

my ($file, $leave) = @ARGV;
$SIG{$_} = 'IGNORE' for qw(HUP INT TERM PIPE);

sub beat {
  my ($name) = @_;
  open my $out, '>>', $file or die "$file: $!";
  $out->autoflush(1);
  # A minute at most, whoever forgets it.
  for (1 .. 3000) { print $out "$name $$\n"; select undef, undef, undef, 0.02 }
  exit;
}

my $child = fork // die "fork: $!";
if ($child == 0) {
  POSIX::setsid();
  my $grandchild = fork // die "fork: $!";
  POSIX::_exit(0) if $grandchild;
  $_->close for *STDIN, *STDOUT, *STDERR;
  beat('left');
}
waitpid $child, 0;
until (-s $file) { select undef, undef, undef, 0.01 }
exit if $leave;
beat('stayed');
