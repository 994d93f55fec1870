// $BELAY_HOME: where state lives, and with which owners and modes. Nothing in it is reachable from
// a sandbox (I10). Started as root, the daemon's parts belong to the user `belay`, and the folders
// above the runs and homes of other uids can be passed but not listed. Where root makes entries,
// nobody else can put a link in their place.

import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { asBelayError, BelayError } from '../core/errors.ts';
import { isRunId } from '../core/ids.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface Home {
  readonly root: string;
  readonly keys: string;
  readonly ledger: string;
  readonly trust: string;
  readonly homes: string;
  readonly run: string;
  readonly lock: string;
  readonly log: string;
  readonly controlSocket: string;
  readonly guardSocket: string;
}

const HOME_VERSION = 1;
export const ROOT: Owner = { uid: 0, gid: 0 };
// sockaddr_un holds 108 bytes with its final NUL; the longest socket is run/r-XXXXXXXX/gw.sock.
const LONGEST_ROOT = 107 - '/run/r-12345678/gw.sock'.length;

/** The home that the environment names, or the default for this user. */
export function findHome(env: NodeJS.ProcessEnv): Home {
  const named = env.BELAY_HOME;
  if (named !== undefined && named !== '') {
    if (!isAbsolute(named)) {
      throw new BelayError('ERR_HOME', `BELAY_HOME \`${named}\` is not an absolute path`);
    }
    return homeAt(named);
  }
  if (process.getuid?.() === 0) return homeAt('/var/lib/belay');
  return homeAt(join(env.XDG_STATE_HOME || join(homedir(), '.local/state'), 'belay'));
}

function homeAt(root: string): Home {
  if (Buffer.byteLength(root) > LONGEST_ROOT) {
    throw new BelayError('ERR_HOME', `BELAY_HOME \`${root}\` is too long for a unix socket in it`, {
      hint: `choose one of at most ${LONGEST_ROOT} bytes`,
    });
  }
  const run = join(root, 'run');
  return {
    root,
    keys: join(root, 'keys'),
    ledger: join(root, 'ledger'),
    trust: join(root, 'trust'),
    homes: join(root, 'homes'),
    run,
    lock: join(run, 'daemon.lock'),
    log: join(root, 'daemon.log'),
    controlSocket: join(run, 'control.sock'),
    guardSocket: join(run, 'guard.sock'),
  };
}

/**
 * Creates what is missing and checks what is there. `daemon` is given when root prepares the home
 * for another user. Throws ERR_HOME for a home of another owner or one that others can write, and
 * ERR_STATE_NEWER for state that a newer Belay wrote.
 */
export function prepareHome(home: Home, daemon?: Owner): void {
  try {
    if (daemon === undefined) {
      const { root, keys, ledger, run, trust, homes } = home;
      for (const path of [root, keys, ledger, run, trust, homes]) folder(path, 0o700);
    } else {
      folder(home.root, 0o711, daemon, ROOT);
      folder(home.keys, 0o700, daemon, daemon);
      folder(home.ledger, 0o700, daemon, daemon);
      // Sticky: the daemon makes the folder of a run there, and cannot move it once root holds it.
      folder(home.run, 0o1771, daemon, { ...ROOT, gid: daemon.gid });
      folder(home.trust, 0o755, daemon, daemon);
      folder(home.homes, 0o711, daemon, ROOT);
    }
    checkVersion(join(home.root, 'version'));
  } catch (error) {
    throw asBelayError('ERR_HOME', `cannot use \`${home.root}\``, error);
  }
}

/** Where a run's socket and files are: by our own home, whatever another uid may answer. */
export function runFolder(home: Home, run: string): string {
  if (!isRunId(run)) throw new BelayError('ERR_PROTOCOL', `\`${run}\` is not a run`);
  return join(home.run, run);
}

/** Gives a folder its mode and owner. A link in its place is refused, not followed. */
export function handOver(path: string, mode: number, owner?: Owner): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
    fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
}

function folder(path: string, mode: number, daemon?: Owner, owner?: Owner): void {
  mkdirSync(path, { recursive: true, mode });
  const found = lstatSync(path);
  const self = process.getuid?.() ?? 0;
  if (!found.isDirectory()) throw new BelayError('ERR_HOME', `\`${path}\` is not a folder`);
  if (found.uid !== self && found.uid !== daemon?.uid) {
    throw new BelayError('ERR_HOME', `\`${path}\` belongs to uid ${found.uid}`, {
      hint: 'set BELAY_HOME to a folder of your own',
    });
  }
  const { uid, gid } = owner ?? found;
  const fits = found.uid === uid && found.gid === gid && (found.mode & 0o7777) === mode;
  if (!fits) handOver(path, mode, owner);
}

function checkVersion(path: string): void {
  if (!existsSync(path)) {
    writeFileSync(path, `${HOME_VERSION}\n`, { mode: 0o644 });
    return;
  }
  const found = Number(readFileSync(path, 'utf8'));
  if (found === HOME_VERSION) return;
  if (found > HOME_VERSION) {
    throw new BelayError('ERR_STATE_NEWER', `the state was written in version ${found}`, {
      hint: `this Belay knows version ${HOME_VERSION}: update it, or set another BELAY_HOME`,
    });
  }
  throw new BelayError('ERR_HOME', `\`${path}\` does not hold a version`);
}
