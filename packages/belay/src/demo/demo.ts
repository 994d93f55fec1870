// The demo: a reckless scripted agent in the real sandbox, against real services on this machine.
// No key, no network, no root. Sets the stage, shows by controls that each act works without Belay,
// runs the agent through `belay run`, ends it in the middle with `belay kill`, reads the ledger, and
// leaves nothing behind but a report.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { entriesOf } from '../control/entries.ts';
import { findHome } from '../control/home.ts';
import { AGENT_USER, systemUser } from '../control/users.ts';
import { BelayError } from '../core/errors.ts';
import { actLines, type ControlParts, fileIssue, runControls } from './controls.ts';
import { judge, type Row } from './judge.ts';
import { killInTheMiddle, openRun } from './kill-scene.ts';
import { findPackages, HERE } from './packages.ts';
import { ourProgram, type Program, start } from './programs.ts';
import { ACTS_INSIDE } from './scenes.ts';
import { MCP_JSON, PRE_COMMIT, RUN_PATH, type Stage, setStage } from './stage.ts';
import { startVictims } from './victims.ts';
import { startWorld } from './world.ts';

export interface DemoOptions {
  readonly cwd: string;
  /** Leave the temporary folder with project and ledger. */
  readonly keep: boolean;
  /** Hears what happens next, one line each. */
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface DemoResult {
  readonly ok: boolean;
  readonly rows: readonly Row[];
  readonly run: string;
  /** What the agent said about its own work. */
  readonly said: readonly string[];
  /** `belay log verify`, as it printed. */
  readonly verified: { readonly ok: boolean; readonly line: string };
  /** Requests that reached a site that nobody listed; must be none. */
  readonly arrivals: readonly string[];
  readonly entries: number;
  readonly durationMs: number;
  /** The temporary folder, when it was kept. */
  readonly kept?: string;
}

const RUN_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 20_000;
const KILL_AFTER_BYTES = 16 * 2 ** 20;

/** Throws ERR_HOST for a host or an installation that cannot show it, ERR_ABORTED when told to end. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  // The agent, the victims and the controls may be another user's: what is put on the stage is
  // readable, and the stage itself cannot be listed.
  const umask = process.umask(0o022);
  try {
    return await perform(options);
  } catch (error) {
    if (options.signal.aborted) throw new BelayError('ERR_ABORTED', 'interrupted');
    throw error;
  } finally {
    process.umask(umask);
  }
}

async function perform({ cwd, keep, say, signal }: DemoOptions): Promise<DemoResult> {
  const startedAt = performance.now();
  const packages = findPackages([HERE, cwd]);
  const owner = process.getuid?.() === 0 ? systemUser(AGENT_USER) : undefined;
  const invent = (): string => randomBytes(18).toString('hex');
  const githubKey = `ghp_${invent()}`;

  say('setting the stage: a project, three bystanders with credentials, GitHub and Slack twins');
  using stage = setStage(packages, owner, keep);
  await using victims = await startVictims(owner, invent);
  await using world = await startWorld({
    emulate: packages.emulate,
    dir: stage.root,
    githubKey,
    slackToken: victims.secrets[0] as string,
  });
  stage.configure(world.ports);
  const parts: ControlParts = { stage, world, victims, owner, githubKey, signal };
  await fileIssue(parts);

  say('the same acts without Belay, so that stopping them means something');
  const controls = await runControls(parts);

  const env = environment(stage, githubKey);
  await using _down = { [Symbol.asyncDispose]: async () => void (await belay(['down'], env)) };
  say('the agent, in the sandbox: honest work first, then the rest');
  await using agent = startAgent(stage, env, signal);
  const run = await agent.downloading;
  say(`belay kill ${run}, in the middle of its download`);
  const kill = await killInTheMiddle({ env, agent: stage.agent, run: agent, world }, run);

  say('reading the ledger');
  const entries = await Array.fromAsync(entriesOf(findHome(env), { run }));
  const verified = await verify(env);
  const secrets = [...victims.secrets, githubKey];
  const rows = judge({
    entries,
    inside: actLines(agent),
    controls,
    printed: agent.stdout() + agent.stderr(),
    secrets,
    arrivals: world.arrivals,
    files: filesAfter(stage),
    kill,
  });
  return {
    ok: rows.every(({ ok }) => ok) && verified.ok && world.arrivals.length === 0,
    rows: rows.map((row) => ({ ...row, evidence: masked(row.evidence, secrets) })),
    run,
    said: agent.lines.flatMap((line) => (line.kind === 'says' ? [masked(line.text, secrets)] : [])),
    verified,
    arrivals: world.arrivals,
    entries: entries.length,
    durationMs: performance.now() - startedAt,
    ...(keep ? { kept: stage.root } : {}),
  };
}

function environment(stage: Stage, githubKey: string): Readonly<Record<string, string>> {
  return {
    PATH: RUN_PATH,
    HOME: process.env.HOME ?? '/',
    LANG: 'C.UTF-8',
    BELAY_HOME: stage.home,
    DEMO_GITHUB_KEY: githubKey,
  };
}

interface Agent extends Program {
  /** The run's name, once the download is well under way. */
  readonly downloading: Promise<string>;
}

function startAgent(
  stage: Stage,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Agent {
  const underWay = Promise.withResolvers<void>();
  const agent = [stage.agent, '--acts', ACTS_INSIDE.join(','), '--mcp-server', stage.mcpServer];
  const named = ['--agent', 'demo', '--env', 'demo', '--workdir', stage.workspace];
  const program = start(
    [process.execPath, ourProgram('cli/main'), 'run', ...named, '--', ...agent],
    {
      cwd: stage.workspace,
      env,
      timeoutMs: RUN_TIMEOUT_MS,
      signal,
      onLine(line) {
        if (line.kind === 'progress' && line.bytes >= KILL_AFTER_BYTES) underWay.resolve();
      },
    },
  );
  const early = program.ended.then((status) => {
    const words = program.stderr().trim().split('\n').slice(-8).join('\n');
    throw new BelayError('ERR_SANDBOX', `\`belay run\` ended early with ${status}: ${words}`);
  });
  const downloading = Promise.race([underWay.promise, early]).then(() => openRun(env));
  // Whoever waits hears of it; an end after the kill is no failure.
  for (const promise of [early, downloading]) promise.catch(() => {});
  return { ...program, downloading };
}

interface Said {
  readonly status: number;
  readonly words: string;
}

async function belay(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Said> {
  await using command = start([process.execPath, ourProgram('cli/main'), ...argv], {
    cwd: '/',
    env,
    timeoutMs: COMMAND_TIMEOUT_MS,
  });
  const status = await command.ended;
  return { status, words: command.stdout() || command.stderr() };
}

async function verify(env: Readonly<Record<string, string>>): Promise<DemoResult['verified']> {
  const { status, words } = await belay(['log', 'verify'], env);
  return { ok: status === 0, line: words.trim().split('\n').at(-1) ?? '' };
}

function filesAfter(stage: Stage): ReadonlyMap<string, 'as it was' | 'changed' | 'missing'> {
  const before = { '.git/hooks/pre-commit': PRE_COMMIT, '.mcp.json': MCP_JSON, 'NOTES.md': '' };
  return new Map(
    Object.entries(before).map(([file, content]) => {
      try {
        const now = readFileSync(join(stage.workspace, file), 'utf8');
        return [file, now === content ? 'as it was' : 'changed'] as const;
      } catch {
        return [file, 'missing'] as const;
      }
    }),
  );
}

/** Even made-up credentials are shown by their first letters only. */
function masked(text: string, secrets: readonly string[]): string {
  return secrets.reduce(
    (shown, secret) => shown.replaceAll(secret, `${secret.slice(0, 8)}…`),
    text,
  );
}
