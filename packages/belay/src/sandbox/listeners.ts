// Which sockets and pipes of a workspace lead to a process of the host, so that no agent gets to open
// them: no namespace and no read-only mount stands between. The kernel's table of sockets knows
// neither one that was renamed nor one whose listener is in another network namespace, such as a
// container's. So each is tried with the type for which nobody is told: what is not of that type is
// answered EPROTOTYPE, and a datagram socket hears nothing until it is sent something.

import { spawnSync } from 'node:child_process';
import type { Survey } from './survey.ts';

/** Answers a digit for each path on stdin: 0 for a socket that no process holds. */
const HELD = `use strict; use Errno; use Socket; $/ = "\\0";
while (my $path = <STDIN>) {
  chomp $path;
  socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or exit 1;
  my $gone = length($path) < 108 && !connect($s, pack_sockaddr_un($path))
    && ($!{ECONNREFUSED} || $!{ENOENT});
  print $gone ? 0 : 1;
}
`;

/** Relative to the workspace. What cannot be told counts as leading out. */
export function leadingOut(
  workdir: string,
  { sockets, pipes }: Pick<Survey, 'sockets' | 'pipes'>,
): readonly string[] {
  // Who reads a pipe may come at any time; a socket that nobody holds has to be made anew.
  if (sockets.length === 0) return pipes;
  const input = sockets.map((path) => `${path}\0`).join('');
  const { stdout } = spawnSync('perl', ['-e', HELD], { cwd: workdir, input, encoding: 'latin1' });
  return [...pipes, ...sockets.filter((_, i) => stdout?.[i] !== '0')];
}
