// A push as a question to policy, where there is no pack to read: `CHANGE:REF`, such as `create:agent/x`
// or `unproven:refs/heads/main`. The repository is that of the URL.

import { BelayError } from '../core/errors.ts';
import { type Change, type Push, type RefChange, repositoryOf } from '../core/push.ts';
import { printable } from '../core/target.ts';

const CHANGES: readonly Change[] = ['create', 'fast-forward', 'unproven', 'delete'];

/** Throws ERR_USAGE for another path than a push has, and for a text of another shape. */
export function askedPush(path: string, texts: readonly string[]): Push {
  const repository = repositoryOf(path);
  if (repository === undefined) {
    throw new BelayError(
      'ERR_USAGE',
      `\`${printable(path)}\` is not where a repository is pushed to`,
      {
        hint: 'write it as `https://HOST/REPOSITORY/git-receive-pack`',
      },
    );
  }
  return { kind: 'push', repository, refs: texts.map(refChange) };
}

function refChange(text: string): RefChange {
  const [word = '', name = ''] = text.split(/:(.*)/s);
  const change = CHANGES.find((one) => one === word);
  if (change === undefined || name === '') {
    throw new BelayError('ERR_USAGE', `\`${printable(text)}\` is no change of a ref`, {
      hint: `write it as \`create:agent/x\`; the changes are ${CHANGES.join(', ')}`,
    });
  }
  return { change, ref: name.startsWith('refs/') ? name : `refs/heads/${name}` };
}
