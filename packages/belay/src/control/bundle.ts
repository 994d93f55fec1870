// The configuration of a workspace, as its runs and whoever asks about them take it: what stands for a
// missing belay.jsonc while a run lives is none.

import type { ConfigBundle } from '../config/bundle.ts';
import { loadBundle } from '../config/load.ts';
import { isPlaceholder } from '../sandbox/janitor.ts';
import type { Home } from './home.ts';

/** Throws ERR_CONFIG for a file that is broken or cannot be read. */
export function bundleOf(workdir: string, home: Pick<Home, 'run'>): ConfigBundle {
  return loadBundle(workdir, (path, text) => isPlaceholder(home.run, path, text));
}
