// The system's git configuration inside a sandbox. No ssh leaves it, so a remote that is reached by
// ssh as `git` is reached by HTTPS there, where pushes are read. Nothing here permits a host.

/** Where developers have repositories; their remotes come with a clone. */
const FORGES = ['github.com', 'gitlab.com', 'bitbucket.org', 'codeberg.org'];

/** A host whose HTTPS is on that port. */
export interface GitHost {
  readonly host: string;
  readonly port: number;
}

export function gitConfig(hosts: readonly GitHost[]): string {
  const ports = new Map(FORGES.map((host) => [host, 443]));
  for (const { host, port } of hosts) if (!ports.has(host) || port === 443) ports.set(host, port);
  const rewrites = [...ports].map(([host, port]) => {
    const name = host.includes(':') ? `[${host}]` : host;
    const base = port === 443 ? `https://${name}/` : `https://${name}:${port}/`;
    // The longest that fits is taken: `git@HOST:/a` and `git@HOST:a` are the same there.
    const bases = [`git@${name}:`, `git@${name}:/`, `ssh://git@${name}/`, `ssh://git@${name}:22/`];
    // Twice: a pushInsteadOf of the repository's own would otherwise go first.
    const lines = bases.flatMap((begin) => [
      `\tinsteadOf = ${begin}\n`,
      `\tpushInsteadOf = ${begin}\n`,
    ]);
    return `[url "${base}"]\n${lines.join('')}`;
  });
  // Placeholders are in nobody's commit.
  return `[core]\n\texcludesFile = /etc/belay-ignore\n${rewrites.join('')}`;
}
