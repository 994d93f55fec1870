import type { Profile } from './profile.ts';

export const gemini: Profile = {
  name: 'Gemini CLI',
  commands: ['gemini'],
  variables: { GEMINI_CLI_TRUST_WORKSPACE: 'true' },
  files: [
    {
      kind: 'settings',
      path: '.gemini/settings.json',
      keys: ['ui', 'model'],
      always: {
        security: { auth: { selectedType: 'gemini-api-key' } },
        general: { disableAutoUpdate: true, disableUpdateNag: true },
        privacy: { usageStatisticsEnabled: false },
        tools: { sandbox: false },
      },
    },
  ],
  copied: ['.gemini/GEMINI.md'],
};
