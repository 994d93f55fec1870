// Turns what the host's tools say when they fail into one clear message with a remedy. The words are
// those of util-linux, iproute2, nftables, bubblewrap and perl.ts; what is not recognised is passed
// on as it is.

import { BelayError } from '../core/errors.ts';
import { printable } from '../core/target.ts';
import { type HostFile, hostFile, namespaceRefusal } from './refusals.ts';

/** The Debian package of each program. */
export const PACKAGES: Readonly<Record<string, string>> = {
  bwrap: 'bubblewrap',
  ip: 'iproute2',
  nft: 'nftables',
  nsenter: 'util-linux',
  perl: 'perl-base',
  setpriv: 'util-linux',
  unshare: 'util-linux',
};

const NAMESPACES =
  /unshare failed|uid_map|setgroups|Creating new namespace failed|No permissions to creat/;

interface Known {
  readonly words: RegExp;
  readonly message: string;
  readonly hint: string;
}

const KNOWN: readonly Known[] = [
  {
    words: /Unknown option --(?:disable-userns|clearenv|json-status-fd)/,
    message: 'bubblewrap is older than 0.8.0',
    hint: 'install 0.8.0 or newer, from a newer release of the system',
  },
  {
    words: /belay: idmap/,
    message: 'the workspace belongs to root, and its filesystem cannot lend it to another user',
    hint: 'give it another owner: chown -R USER WORKSPACE',
  },
  {
    words: /IP_TRANSPARENT|IPV6_TRANSPARENT|nft: [\s\S]*(?:Could not process|not supported)/,
    message: 'this kernel has no transparent proxying (nft_tproxy), so nothing can be intercepted',
    hint: 'load it: sudo modprobe nft_tproxy, or use a kernel that has it',
  },
  {
    words: /belay: ipv6:/,
    message: 'IPv6 is switched off in this kernel, and the bridge needs it for its listener',
    hint: 'boot without ipv6.disable=1; connections of the host stay as they are',
  },
  {
    words: /Unknown device type|ip: [\s\S]*(?:Operation not supported|not permitted)/,
    message: 'this kernel cannot make a veth pair',
    hint: 'load it: sudo modprobe veth',
  },
  {
    words: /belay: cgroup/,
    message: "the run's cgroup cannot be joined",
    hint: 'run `belay doctor`',
  },
];

/** What failed while `doing`, by what the tools said. */
export function hostFailure(doing: string, said: string, read: HostFile = hostFile): BelayError {
  const absent = /(?:failed to execute|belay: exec|spawn) ([a-z]+):? (?:No such file|ENOENT)/.exec(
    said,
  );
  if (absent?.[1] !== undefined) return missingProgram(absent[1], said);
  if (NAMESPACES.test(said)) {
    const { message, hint } = namespaceRefusal(said, read);
    return new BelayError('ERR_HOST', message, { hint, cause: said });
  }
  for (const { words, message, hint } of KNOWN) {
    if (words.test(said)) return new BelayError('ERR_HOST', message, { hint, cause: said });
  }
  const line = said.trim().split('\n').at(-1) ?? '';
  return new BelayError('ERR_SANDBOX', `${doing}: ${printable(line) || 'no reason was given'}`);
}

/** A program that could not be started. */
export function missingProgram(program: string, cause: unknown): BelayError {
  const name = PACKAGES[program];
  return new BelayError('ERR_HOST', `\`${program}\` is not installed`, {
    cause,
    ...(name === undefined ? {} : { hint: `apt-get install ${name}` }),
  });
}
