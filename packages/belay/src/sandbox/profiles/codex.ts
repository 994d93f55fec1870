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
  says: "Codex's own sandbox is off in here: with `--sandbox` other than danger-full-access its tools fail",
};
