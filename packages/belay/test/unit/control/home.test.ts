// A home of root's, and a daemon's user that was captured and wants to be root: it plants links where
// root makes, opens, gives away or removes something.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import {
  findHome,
  type Home,
  type Owner,
  prepareHome,
  runFolder,
} from '../../../src/control/home.ts';
import { supervise } from '../../../src/control/spawner.ts';
import { holdRunFolder, makeAgentHome, type Workdir } from '../../../src/control/workdir.ts';
import { readOwner, writeOwner } from '../../../src/sandbox/owner.ts';
import { ORDINARY_UID } from '../../installed.ts';
import { verifies } from '../../verifies.ts';

const DAEMON = { uid: ORDINARY_UID, gid: ORDINARY_UID };
const AGENT = { uid: ORDINARY_UID + 1, gid: ORDINARY_UID + 1 };
const RUN = 'r-bcdfghjk';
const skip = process.getuid?.() !== 0 && 'only root has a daemon of another uid';

/** A home, and a folder of root's with a file that nobody else may touch. */
function openGround() {
  const base = mkdtempSync(join(tmpdir(), 'belay-home-'));
  chmodSync(base, 0o755);
  const victim = join(base, 'victim');
  mkdirSync(victim, { mode: 0o700 });
  writeFileSync(join(victim, 'file'), 'as it was\n', { mode: 0o600 });
  const home = findHome({ BELAY_HOME: join(base, 'state') });
  const look = (path: string) => {
    const { uid, gid, mode } = statSync(path);
    return [uid, gid, mode & 0o7777];
  };
  return {
    home,
    victim,
    /** What a stranger sees of the victim: how it was at first. */
    victimNow: () => [
      ...[look(victim), look(join(victim, 'file'))],
      readFileSync(join(victim, 'file'), 'utf8'),
    ],
    [Symbol.dispose]: () => rmSync(base, { recursive: true }),
  };
}
const UNTOUCHED = [[0, 0, 0o700], [0, 0, 0o600], 'as it was\n'];

/** The folder of a run with its socket, as the daemon makes them. */
async function openRunFolder(home: Home): Promise<Disposable & { readonly path: string }> {
  const path = runFolder(home, RUN);
  mkdirSync(path, { mode: 0o700 });
  chownSync(path, DAEMON.uid, DAEMON.gid);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(path, 'gw.sock'), resolve));
  lchownSync(join(path, 'gw.sock'), DAEMON.uid, DAEMON.gid);
  return { path, [Symbol.dispose]: () => void server.close() };
}

function asDaemon(script: string, cwd: string): boolean {
  const ids = ['--reuid', `${DAEMON.uid}`, '--regid', `${DAEMON.gid}`, '--clear-groups', '--'];
  return spawnSync('setpriv', [...ids, 'sh', '-c', script], { cwd }).status === 0;
}

const TESTER = { agent: 'tester', environment: 'local' };
const workdirOf = (agent: Owner): Workdir => ({ path: '/w', id: '0:0', agent, idmap: false });

verifies(
  'home.no-links',
  "the daemon's user makes what is its own, and can exchange nothing where root makes entries",
  async () => {
    using ground = openGround();
    const { home } = ground;
    prepareHome(home, DAEMON);
    const agentHome = makeAgentHome(home, TESTER, workdirOf(AGENT));
    using folder = await openRunFolder(home);
    const may = (script: string) => asDaemon(script, home.root);
    {
      using _held = holdRunFolder(folder.path, AGENT);
      mkdirSync(join(folder.path, 'sandbox'));
      const exchanges = [
        ...['ln -s /etc/passwd daemon.log', 'echo > belay.jsonc', 'mv homes moved', 'mv run moved'],
        ...['ln -s / homes/x-12346', `mv ${agentHome} homes/moved`],
        ...[`mv run/${RUN} run/r-ccccccccc`, `rm -r run/${RUN}/sandbox`],
        ...[`mv run/${RUN}/sandbox run/${RUN}/moved`, `ln -s / run/${RUN}/moved`],
        ...[`rm -f run/${RUN}/gw.sock`, `chmod 777 run/${RUN}`],
      ];
      expect(exchanges.filter(may)).toEqual([]);
      rmSync(join(folder.path, 'sandbox'), { recursive: true });
    }
    const own = [
      'mkdir run/r-dddddddd',
      'echo > run/daemon.lock',
      'echo > ledger/x',
      'echo > keys/x',
    ];
    expect([...own, `rm -r run/${RUN}`].filter((script) => !may(script))).toEqual([]);
  },
  { skip },
);

verifies(
  'home.no-links',
  'a link that lies where root makes an entry is refused, and what it leads to stays as it was',
  async () => {
    using ground = openGround();
    const { home, victim, victimNow } = ground;
    prepareHome(home, DAEMON);
    using folder = await openRunFolder(home);
    const file = join(victim, 'file');

    const agentHome = makeAgentHome(home, TESTER, workdirOf(AGENT));
    rmSync(agentHome, { recursive: true });
    symlinkSync(victim, agentHome);
    expect(() => makeAgentHome(home, TESTER, workdirOf(AGENT))).toThrow();
    const outside = { ...TESTER, agent: '../../victim/made' };
    expect(() => makeAgentHome(home, outside, workdirOf(AGENT))).toThrow('not the name of');

    symlinkSync(file, join(folder.path, 'owner.json.new'));
    const owner = { workdir: victim, placeholders: [], cgroups: [] };
    expect(() => writeOwner(folder.path, owner)).toThrow('EEXIST');
    symlinkSync(file, join(folder.path, 'owner.json'));
    expect(readOwner(folder.path)).toBeUndefined();

    symlinkSync(file, home.log);
    const supervised = supervise({ home, lingerMs: 1, onReady: () => {} });
    await expect(supervised).rejects.toThrow('ELOOP');

    rmSync(home.trust, { recursive: true });
    symlinkSync(victim, home.trust);
    expect(() => prepareHome(home, DAEMON)).toThrow('is not a folder');
    expect(victimNow()).toEqual(UNTOUCHED);
  },
  { skip },
);

verifies(
  'home.no-links',
  "root takes no other folder, nor another's socket, for those of a run",
  async () => {
    using ground = openGround();
    const { home, victim, victimNow } = ground;
    prepareHome(home, DAEMON);
    expect(() => runFolder(home, '../../victim')).toThrow('is not a run');
    const planted = runFolder(home, 'r-cccccccc');
    symlinkSync(victim, planted);
    expect(() => holdRunFolder(planted, AGENT)).toThrow(/ENOTDIR|ELOOP/);

    using folder = await openRunFolder(home);
    const socket = join(folder.path, 'gw.sock');
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(join(victim, 'sock'), resolve));
    try {
      for (const how of ['ln', 'ln -s']) {
        rmSync(socket);
        spawnSync('sh', ['-c', `${how} ${join(victim, 'sock')} ${socket}`]);
        expect(() => holdRunFolder(folder.path, AGENT)).toThrow("is not the daemon's socket");
        chownSync(folder.path, DAEMON.uid, DAEMON.gid);
      }
      expect(statSync(join(victim, 'sock')).uid).toBe(0);
    } finally {
      other.close();
    }
    expect(victimNow()).toEqual(UNTOUCHED);
  },
  { skip },
);
