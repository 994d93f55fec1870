// What a grant says about pushes: `git.push:HOST/REPOSITORY#BRANCH` permits to make that branch and
// to move it forward, `git.force-push:` to move it anywhere too, and `git.delete-ref:` to delete it. A
// name that begins with `refs/` is a whole ref; `*` stands for any characters. The repository is one,
// exactly: its path on the host, without `.git`.

import { isRepository, type PushAction } from '../core/push.ts';
import { type Host, hostPort, parseHost } from '../core/target.ts';

export interface PushEntry {
  readonly kind: 'push';
  /** `git.push:example.com/team/app#main` */
  readonly text: string;
  readonly origin: string;
  readonly action: PushAction;
  readonly host: Host;
  readonly port: number;
  readonly repository: string;
  /** `refs/heads/main`, `refs/heads/agent/*` */
  readonly refs: string;
}

const ENTRY =
  /^(git\.(?:push|force-push|delete-ref)):(?:https:\/\/)?(\[[^\]/]*\]|[^:/]*)(?::(\d{1,5}))?\/([^#]*)#(.*)$/;
const REPOSITORY = /^[A-Za-z0-9_~!$&'()+,=:@%-][A-Za-z0-9._~!$&'()+,=:@%/-]*$/;
const REFS = /^[!-~]{1,255}$/;
const NOT_IN_REFS = /[~^:?[\\]|\.\.|@\{|\/\/|^\/|\/$/;

/** Whether a text is meant as one; then it is one or a fault. `git.example:8443` is a host. */
export function meansPush(text: string): boolean {
  return /^git\.[^:/]*:(?!\d+$)/.test(text);
}

/** Undefined when it has another shape. Throws ERR_PROTOCOL for the host. */
export function parsePush(text: string, origin: string): PushEntry | undefined {
  const match = ENTRY.exec(text);
  if (match === null) return undefined;
  const [, action, hostText = '', portText = '443', path = '', name = ''] = match;
  const port = Number(portText);
  const repository = path.replace(/\.git$/, '');
  if (port < 1 || port > 65_535) return undefined;
  if (!REPOSITORY.test(repository) || !isRepository(repository)) return undefined;
  if (!REFS.test(name) || NOT_IN_REFS.test(name)) return undefined;
  const host = parseHost(hostText);
  const refs = name.startsWith('refs/') ? name : `refs/heads/${name}`;
  const entry = { action: action as PushAction, host, port, repository, refs };
  return { kind: 'push', text: pushText(entry), origin, ...entry };
}

/** The entry as it is written, in its one form. */
export function pushText({
  action,
  host,
  port,
  repository,
  refs,
}: Omit<PushEntry, 'kind' | 'text' | 'origin'>): string {
  const at = port === 443 ? host.replace(/^.*:.*$/, '[$&]') : hostPort({ host, port });
  return `${action}:${at}/${repository}#${refs.replace(/^refs\/heads\//, '')}`;
}
