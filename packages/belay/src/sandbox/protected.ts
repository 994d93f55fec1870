// The names in a workspace that make someone else's program run code: git's hooks and settings,
// agents' and editors' configuration, package managers' settings, CI workflows, shell start files.
// An agent may read them and never write, create, rename or remove one. As data, so that a reviewer
// sees the whole list; what git and agents do with an empty file is why some placeholders have
// content.

export interface ProtectedName {
  /** Relative to the workspace. */
  readonly path: string;
  readonly kind: 'file' | 'dir';
  /**
   * When the name does not exist: `mask` keeps it from being created; `home` does so only where the
   * workspace is the caller's home; `leave` protects existing ones only.
   */
  readonly missing: 'mask' | 'home' | 'leave';
  /** What a placeholder file holds. */
  readonly content?: string;
  /** Files that are seen in a placeholder folder; on the host it stays empty. */
  readonly holds?: Readonly<Record<string, string>>;
}

type Missing = ProtectedName['missing'];
const files = (missing: Missing, ...paths: string[]): ProtectedName[] =>
  paths.map((path) => ({ path, kind: 'file', missing }));
const dirs = (missing: Missing, ...paths: string[]): ProtectedName[] =>
  paths.map((path) => ({ path, kind: 'dir', missing }));

const NOTHING_GRANTED =
  '{"version":1,"agents":{"agent":{"environment":"local"}},"environments":{"local":{}}}\n';

export const PROTECTED: readonly ProtectedName[] = [
  ...dirs('mask', '.git/hooks'),
  ...files('mask', '.git/config', '.git/config.worktree', '.git/info/attributes'),
  // It names the directory whose config and hooks git uses; `.` is the repository itself.
  { path: '.git/commondir', kind: 'file', missing: 'mask', content: '.\n' },
  ...dirs('leave', '.git/modules'),
  { path: '.mcp.json', kind: 'file', missing: 'mask', content: '{"mcpServers":{}}\n' },
  { path: 'opencode.json', kind: 'file', missing: 'mask', content: '{}\n' },
  ...dirs('mask', '.claude', '.codex', '.gemini', '.cursor', '.windsurf'),
  // It writes this file into the folder when there is one, and ends when it cannot.
  { path: '.opencode', kind: 'dir', missing: 'mask', holds: { '.gitignore': '*\n' } },
  // What the next run would be permitted (I10). A placeholder says what no file says: nothing.
  { path: 'belay.jsonc', kind: 'file', missing: 'mask', content: NOTHING_GRANTED },
  ...dirs('mask', 'policies'),
  ...dirs('mask', '.vscode', '.idea', '.devcontainer', '.husky', '.github/workflows'),
  ...files('mask', '.envrc', '.npmrc', '.yarnrc', '.yarnrc.yml', '.pnpmfile.cjs', 'bunfig.toml'),
  ...files('mask', '.pre-commit-config.yaml', '.gitlab-ci.yml'),
  ...files('home', '.bashrc', '.bash_profile', '.bash_login', '.bash_logout', '.profile'),
  ...files('home', '.zshrc', '.zshenv', '.zprofile', '.zlogin', '.inputrc', '.gitconfig'),
  ...dirs('home', '.ssh', '.config', '.local/bin'),
];

/** In each folder of `.git/worktrees`: what says which settings git uses in that worktree, which may
 * be anywhere on the host. */
export const PROTECTED_OF_WORKTREE: readonly ProtectedName[] = [
  ...files('leave', 'commondir', 'gitdir'),
  ...files('mask', 'config.worktree'),
  ...dirs('leave', 'modules'),
];

/** Files of secrets in the workspace's top folder: the agent sees empty ones. */
export function holdsSecrets(name: string): boolean {
  return /^\.env(?:\..+)?$/.test(name) && !/\.(?:example|sample|template|dist)$/.test(name);
}
