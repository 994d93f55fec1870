import type { Profile } from './profile.ts';

export const claude: Profile = {
  name: 'Claude Code',
  commands: ['claude'],
  variables: {
    DISABLE_AUTOUPDATER: '1',
    DISABLE_TELEMETRY: '1',
    DISABLE_ERROR_REPORTING: '1',
  },
  files: [
    // Without this its first screen asks a host that nobody granted, and ends when that is refused.
    { kind: 'missing', path: '.claude.json', content: '{"hasCompletedOnboarding":true}\n' },
    {
      kind: 'settings',
      path: '.claude/settings.json',
      keys: ['model', 'theme', 'outputStyle', 'language', 'includeCoAuthoredBy'],
      // Its own sandbox needs namespaces, which are refused here.
      always: { sandbox: { enabled: false } },
    },
  ],
  copied: ['.claude/CLAUDE.md'],
};
