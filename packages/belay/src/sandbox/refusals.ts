// Why a host refuses user namespaces: each known cause told apart, from the kernel's own files and
// from what the tool said, with the line to type. Nothing here turns a protection of the whole host
// off where a narrower remedy exists.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Refusal {
  readonly message: string;
  readonly hint: string;
}

/** The text of a file of the host, trimmed; undefined when it does not exist. */
export type HostFile = (path: string) => string | undefined;

const APPARMOR_SETUP = fileURLToPath(new URL('../../bin/apparmor-setup', import.meta.url));
const OUTSIDE_HINT = 'or run it without a sandbox: belay run --containment external';

export function hostFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined; // this kernel has no such switch
  }
}

/** The cause of a refused user namespace, the most certain first. */
export function namespaceRefusal(said: string, read: HostFile = hostFile): Refusal {
  if (read('/proc/sys/user/max_user_namespaces') === '0') {
    return {
      message: 'this host allows no user namespace at all (user.max_user_namespaces is 0)',
      hint: `sudo sysctl -w user.max_user_namespaces=10000, ${OUTSIDE_HINT}`,
    };
  }
  if (/No space left on device/.test(said)) {
    return {
      message: 'this host has run out of user namespaces (user.max_user_namespaces)',
      hint: 'sudo sysctl -w user.max_user_namespaces=10000, or end what holds them',
    };
  }
  if (read('/proc/sys/kernel/unprivileged_userns_clone') === '0') {
    return {
      message: 'this host keeps user namespaces for root (kernel.unprivileged_userns_clone is 0)',
      hint: `sudo sysctl -w kernel.unprivileged_userns_clone=1, ${OUTSIDE_HINT}`,
    };
  }
  if (inContainer(read)) {
    return {
      message: 'the container around this refuses user namespaces',
      hint: `start it with --security-opt seccomp=unconfined, ${OUTSIDE_HINT}`,
    };
  }
  if (read('/proc/sys/kernel/apparmor_restrict_unprivileged_userns') === '1') {
    return {
      message: 'AppArmor refuses user namespaces to programs without a profile (Ubuntu 24.04 on)',
      // It writes a profile for two tools of Belay's own; the host keeps its switch.
      hint: `sudo sh ${APPARMOR_SETUP}, ${OUTSIDE_HINT}`,
    };
  }
  return {
    message: 'this host does not let you make user namespaces',
    hint: `a security module or the kernel's build says so, ${OUTSIDE_HINT}`,
  };
}

function inContainer(read: HostFile): boolean {
  if (read('/.dockerenv') !== undefined || read('/run/.containerenv') !== undefined) return true;
  const first = read('/proc/1/cgroup') ?? '';
  return /docker|containerd|kubepods|libpod|lxc/.test(first);
}
