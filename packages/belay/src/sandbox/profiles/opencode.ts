import type { Profile } from './profile.ts';

export const opencode: Profile = {
  name: 'opencode',
  commands: ['opencode'],
  variables: { OPENCODE_DISABLE_AUTOUPDATE: 'true' },
  files: [
    {
      kind: 'settings',
      path: '.config/opencode/opencode.json',
      keys: ['model', 'small_model', 'theme', 'permission', 'username'],
      always: { autoupdate: false, share: 'disabled' },
    },
  ],
  copied: ['.config/opencode/AGENTS.md'],
};
