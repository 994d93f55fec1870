import type { Profile } from './profile.ts';

export const pi: Profile = {
  name: 'pi',
  commands: ['pi'],
  variables: {},
  files: [],
  copied: ['.pi/agent/AGENTS.md'],
};
