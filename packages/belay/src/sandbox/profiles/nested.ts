import type { Profile } from './profile.ts';

const nothing = { variables: {}, files: [], copied: [] };

/** Programs that build sandboxes of their own: here they hear why that fails, and what helps. */
export const chromium: Profile = {
  ...nothing,
  name: 'Chromium',
  commands: ['chromium', 'chromium-browser', 'chrome', 'google-chrome', 'google-chrome-stable'],
  says: "Chromium's own sandbox needs namespaces, which are refused in here: start it with --no-sandbox",
};

export const containers: Profile = {
  ...nothing,
  name: 'containers',
  commands: ['docker', 'podman', 'buildah', 'nerdctl', 'docker-compose'],
  says: 'containers need namespaces or the socket of the host, which are refused in here: run them outside, or all of it with --containment external',
};
