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
  login: {
    name: 'claude',
    path: '.claude/.credentials.json',
    access: ['claudeAiOauth', 'accessToken'],
    refresh: ['claudeAiOauth', 'refreshToken'],
    expiresAt: ['claudeAiOauth', 'expiresAt'],
    kept: [
      ['claudeAiOauth', 'scopes'],
      ['claudeAiOauth', 'subscriptionType'],
      ['claudeAiOauth', 'rateLimitTier'],
    ],
    host: 'api.anthropic.com',
    preset: 'model:anthropic',
    renewal: {
      host: 'platform.claude.com',
      path: '/v1/oauth/token',
      clientId: '9d1c250a-e61b-44d9-88ed-5944d1962f5e',
      scopes: ['claudeAiOauth', 'scopes'],
    },
  },
};
