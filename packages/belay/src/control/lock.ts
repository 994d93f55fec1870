// One daemon per home. The lock is an exclusive transaction on a SQLite file: the kernel frees it
// when the holder dies, however it dies, so there is no stale lock to break.

import { DatabaseSync } from 'node:sqlite';
import { BelayError, reasonOf } from '../core/errors.ts';

export interface Lock extends Disposable {}

// Two that take it at the same moment may each hold a part of it. With time to wait SQLite lets one
// of them have it; with none both would be refused.
const BOTH_AT_ONCE_MS = 100;

/** Takes the lock, or throws ERR_LOCKED when another process keeps it. */
export function takeLock(path: string): Lock {
  const database = new DatabaseSync(path);
  try {
    database.exec(`PRAGMA busy_timeout = ${BOTH_AT_ONCE_MS}; BEGIN EXCLUSIVE`);
  } catch (error) {
    database.close();
    if (reasonOf(error).includes('locked')) {
      throw new BelayError('ERR_LOCKED', 'another daemon owns this home', {
        hint: '`belay status` shows it, `belay down` ends it',
      });
    }
    throw new BelayError('ERR_HOME', `cannot lock \`${path}\`: ${reasonOf(error)}`);
  }
  return { [Symbol.dispose]: () => database.close() };
}
