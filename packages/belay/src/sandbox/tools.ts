// The environment of the host's tools that build a sandbox: nothing of the caller's. The first folder
// exists only where host-setup made it: copies that an AppArmor profile lets make user namespaces.

const TOOL_PATH = '/usr/libexec/belay:/usr/sbin:/usr/bin:/sbin:/bin';
export const TOOL_ENV = { PATH: TOOL_PATH, LC_ALL: 'C' } as const;
