// A git push, as its request says it: which refs of which repository it would change, and how. The
// ids are the client's word; the server compares the old one with what the ref is, so that a change
// that was judged against another state does not happen.

/**
 * `fast-forward`: the commits that were sent show that the new commit follows the old one, each by
 * its own hash. `unproven`: they do not, which counts as a forced push.
 */
export type Change = 'create' | 'fast-forward' | 'unproven' | 'delete';

export interface RefChange {
  readonly change: Change;
  /** Object ids in lower case; absent where there is none. */
  readonly new?: string;
  readonly old?: string;
  /** Its full name: `refs/heads/agent/x`. */
  readonly ref: string;
}

export interface Push {
  readonly kind: 'push';
  /** The path of the repository, without its first slash and a last `.git`, in the client's letters. */
  readonly repository: string;
  /** None: a client asks whether it may push, before it sends much. */
  readonly refs: readonly RefChange[];
}

/** What a server might take for a push, and what is not read as one. No policy permits it. */
export interface UnreadablePush {
  readonly kind: 'unreadable';
  readonly reason: string;
}

/** Where agents may push when nothing else is granted. */
export const AGENT_BRANCHES = 'refs/heads/agent/';

/** How policies name what a push does to a ref. */
export type PushAction = 'git.push' | 'git.force-push' | 'git.delete-ref';

export function pushAction(change: Change): PushAction {
  switch (change) {
    case 'create':
    case 'fast-forward':
      return 'git.push';
    case 'unproven':
      return 'git.force-push';
    case 'delete':
      return 'git.delete-ref';
  }
}

export type GitService = 'git-upload-pack' | 'git-receive-pack';

/** Of the request with which a git client begins: its query says what it wants, and no secret. */
export function serviceAsked(path: string, query: string): GitService | undefined {
  if (!path.endsWith('/info/refs')) return undefined;
  if (query === 'service=git-upload-pack') return 'git-upload-pack';
  return query === 'service=git-receive-pack' ? 'git-receive-pack' : undefined;
}

/** Of the path that a push goes to, which has this one form. */
export function repositoryOf(path: string): string | undefined {
  const name = /^\/(.+?)(?:\.git)?\/git-receive-pack$/.exec(path)?.[1];
  return name !== undefined && isRepository(name) ? name : undefined;
}

/**
 * Servers find a repository under some names more: in a folder `.git`, with a second suffix, with a
 * path parameter, with an escape of what may stand bare. Here it has one: of escapes those of a space and
 * of letters outside ASCII, which have no other spelling. Whether case matters is known to the server alone.
 */
export function isRepository(name: string): boolean {
  return !/\/$|(?:\.git|%20)$|;|%(?!20|[89A-F][0-9A-F])/i.test(name);
}
