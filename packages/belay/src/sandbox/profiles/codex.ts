import type { Profile } from './profile.ts';

export const codex: Profile = {
  name: 'Codex',
  commands: ['codex'],
  variables: {},
  files: [
    {
      kind: 'missing',
      path: '.codex/config.toml',
      // Its own sandbox needs namespaces, which are refused here, and then fails in silence.
      content: 'sandbox_mode = "danger-full-access"\ncheck_for_update_on_startup = false\n',
    },
  ],
  copied: ['.codex/AGENTS.md'],
  login: {
    name: 'codex',
    path: '.codex/auth.json',
    access: ['tokens', 'access_token'],
    refresh: ['tokens', 'refresh_token'],
    idToken: ['tokens', 'id_token'],
    renewedAt: ['last_refresh'],
    kept: [['auth_mode'], ['tokens', 'account_id']],
    claims: ['email', 'https://api.openai.com/auth', 'https://api.openai.com/profile'],
    host: 'chatgpt.com',
    preset: 'model:chatgpt',
    renewal: {
      host: 'auth.openai.com',
      path: '/oauth/token',
      clientId: 'app_EMoamEEZ73f0CkXaXp7hrann',
    },
  },
  says: "Codex's own sandbox is off in here: with `--sandbox` other than danger-full-access its tools fail",
};
