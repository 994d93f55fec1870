// Belay as it is installed, with everything on: TLS opened, the call classified, Cedar asked, budget
// reserved, credential put in, intent and outcome on the disk. Its daemon, with writer thread, guard
// and spawner, has the peers' core. The load generator is the agent of a real run, with bridge and
// sandbox beside it on the other core; or it speaks to the run's socket as the bridge would.

import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { openSession, type Session } from '../packages/belay/test/installed.ts';
import { loadClient } from './load-client.ts';
import { issuerIn, type Peer } from './peer.ts';
import {
  commandLineOf,
  end,
  familyOf,
  isPinned,
  LOAD_CORE,
  PEER_CORE,
  peakRssBytes,
  startOn,
  until,
} from './processes.ts';
import { DECLARED_HOST, type Origin } from './upstream.ts';

const LOAD_FILES = ['load.ts', 'figures.ts'];
/** Beside the grant: a decision depends on the path, as it would in life. */
const POLICY = `// nobody administers
@id("no-admin")
forbid (principal, action, resource) when { context.path like "/v1/admin/*" };
`;

/** What the ledger has to hold at the end. */
export interface BelayRecord {
  readonly calls: number;
  readonly entries: number;
  readonly peakDaemonRssBytes: number;
  /** Launcher and bridge: what each run costs beside its agent. */
  readonly peakRunRssBytes: number;
}

export interface Belay extends AsyncDisposable {
  readonly home: string;
  readonly peers: readonly Peer[];
  /** Ends the run, and has its record checked. Throws when it is not whole. */
  finish(calls: number): Promise<BelayRecord>;
}

export async function startBelay(origin: Origin): Promise<Belay> {
  await using stack = new AsyncDisposableStack();
  const session = stack.use(await openSession());
  const { home, env, workdir, launcher } = session;
  if (process.getuid?.() === 0) chmodSync(dirname(workdir), 0o755);
  writeConfig(session, origin);

  const belay = [process.execPath, launcher];
  const up = startOn(PEER_CORE, [...belay, 'up'], {
    cwd: workdir,
    env: { ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  stack.defer(() => end(up));
  await waitForWord(up.stderr, 'belay: up', () => up.exitCode);
  const status = await session.belay(['status', '--json']);
  const { pid: daemonPid, version } = JSON.parse(status.stdout) as {
    readonly pid: number;
    readonly version: string;
  };
  if (!isPinned(daemonPid, PEER_CORE)) throw new Error('the daemon has more than its core');

  const command = [process.execPath, 'load.ts'];
  const run = startOn(LOAD_CORE, [...belay, 'run', '--json', '--', ...command], {
    cwd: workdir,
    env: { ...env, BENCH_AUTHORIZATION: origin.authorization },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  stack.defer(() => end(run));
  let said = '';
  run.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const runFolder = await until('open run', () => {
    if (run.exitCode !== null) throw new Error(`belay run ended: ${said}`);
    return readdirSync(join(home, 'run')).find((name) => name.startsWith('r-'));
  });
  const inside = (): readonly number[] => familyOf(run.pid as number);
  const agentPid = await until('agent in its sandbox', () =>
    inside().find((pid) => commandLineOf(pid) === command.join(' ')),
  );
  const bridgePid = inside().find((pid) => /bridge\.js \d+$/.test(commandLineOf(pid)));
  if (bridgePid === undefined) throw new Error('the run has no bridge');

  const ca = readFileSync(join(home, 'trust/ca.pem'), 'utf8');
  const gateway = {
    version,
    authorization: 'Bearer replaced',
    issuer: issuerIn(ca),
    pids: () => familyOf(up.pid as number),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const name = { host: DECLARED_HOST, port: 443, ca } as const;
  const road = {
    ...gateway,
    way: { ...name, dial: { host: DECLARED_HOST, port: 443 }, opening: 'none' },
    load: { client: loadClient(run), pids: inside, bridgePid },
  } as const;
  const path = join(home, 'run', runFolder, 'gw.sock');
  const peers: readonly Peer[] = [
    { ...road, name: 'belay' },
    { ...gateway, name: 'belay-gateway', way: { ...name, dial: { path }, opening: 'bridge-line' } },
    { ...road, name: 'belay-new-paths', newPaths: true },
  ];

  const owned = stack.move();
  return {
    home,
    peers,
    async finish(calls) {
      const peakDaemonRssBytes = peakRssBytes([daemonPid]);
      const peakRunRssBytes = peakRssBytes([run.pid as number, bridgePid]);
      process.kill(agentPid, 0);
      run.stdin?.end();
      await until('end of the run', () => run.exitCode ?? undefined);
      return {
        ...(await checkRecord(session, said, calls)),
        peakDaemonRssBytes,
        peakRunRssBytes,
      };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function writeConfig({ workdir }: Session, origin: Origin): void {
  const put = (name: string, text: string): void =>
    writeFileSync(join(workdir, name), text, { mode: 0o644 });
  for (const file of LOAD_FILES) {
    copyFileSync(join(import.meta.dirname, file), join(workdir, file));
    chmodSync(join(workdir, file), 0o644);
  }
  mkdirSync(join(workdir, 'policies'));
  put('policies/bench.cedar', POLICY);
  put('upstream-ca.pem', origin.caPem);
  const config = {
    version: 1,
    agents: { bench: { environment: 'local' } },
    environments: { local: {} },
    grants: [
      {
        agent: 'bench',
        environment: 'local',
        allow: [DECLARED_HOST],
        caps: { calls: 1e9, bytes: '1000GB' },
      },
    ],
    credentials: {
      bench: {
        from: 'env:BENCH_AUTHORIZATION',
        environment: 'local',
        host: DECLARED_HOST,
        methods: ['GET'],
        paths: ['/v1/**'],
        header: 'authorization',
      },
    },
    upstreams: {
      [DECLARED_HOST]: {
        address: `127.0.0.1:${origin.port}`,
        tls: { ca: './upstream-ca.pem' },
      },
    },
  };
  put('belay.jsonc', `${JSON.stringify(config, null, 2)}\n`);
}

/** Every call that the load generator counted is in the run's closing figures and in the ledger. */
async function checkRecord(
  session: Session,
  said: string,
  calls: number,
): Promise<Pick<BelayRecord, 'calls' | 'entries'>> {
  const line = said.split('\n').findLast((text) => text.startsWith('{"v":1,"kind":"run"'));
  if (line === undefined) throw new Error(`the run has no summary: ${said}`);
  const summary = JSON.parse(line) as { readonly calls: number; readonly denials: number };
  if (summary.calls < calls || summary.denials > 0) {
    throw new Error(`of ${calls} calls the run knows ${summary.calls}, ${summary.denials} denied`);
  }
  const checked = await session.belay(['log', 'verify', '--json'], { timeoutMs: 300_000 });
  if (checked.status !== 0) throw new Error(`the ledger does not verify: ${checked.stdout}`);
  const { entries } = JSON.parse(checked.stdout) as { readonly entries: number };
  if (entries < 2 * calls) throw new Error(`${calls} calls, but ${entries} entries`);
  return { calls: summary.calls, entries };
}

function waitForWord(
  stream: NodeJS.ReadableStream | null,
  word: string,
  exitCode: () => number | null,
): Promise<void> {
  let said = '';
  stream?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  return until(word, () => {
    if (exitCode() !== null) throw new Error(said);
    return said.includes(word) || undefined;
  }).then(() => {});
}
