// What this host has of what a sandbox needs, tried and not guessed: each check does the thing in
// throw-away namespaces and cleans up by ending. `doctor` runs them all; a run does not wait for
// them, since startSandbox maps the same failures when they happen.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '../core/errors.ts';
import { delegatedCgroup, limitedByCgroup } from './cgroup.ts';
import { hostFailure, PACKAGES } from './failures.ts';
import { LINK_RULES, LISTENER_PORT } from './link.ts';
import { HOLD_AND_LISTEN } from './perl.ts';
import { namespaceRefusal } from './refusals.ts';
import { TOOL_ENV } from './tools.ts';

export interface Check {
  readonly id: string;
  readonly ok: boolean;
  /** What was found, and why it matters when it is not there. */
  readonly why: string;
  readonly hint?: string;
}

const TRY_MS = 5_000;
const OLDEST_BWRAP = [0, 8] as const;
/** Every check, at the same time. Never throws. */
export async function preflight(): Promise<readonly Check[]> {
  return Promise.all([
    bubblewrap(),
    ...['ip', 'nft', 'unshare', 'nsenter', 'perl'].map(installed),
    ...(process.getuid?.() === 0 ? [installed('setpriv')] : []),
    userNamespaces(),
    veth(),
    tproxy(),
    transparentListener(),
    cgroup(),
    limits(),
  ]);
}

function installed(program: string): Check {
  const found = TOOL_ENV.PATH.split(':').find((folder) => existsSync(join(folder, program)));
  if (found !== undefined) return { id: program, ok: true, why: join(found, program) };
  const why = `\`${program}\` is not installed, and the sandbox is built with it`;
  return { id: program, ok: false, why, hint: `apt-get install ${PACKAGES[program] ?? program}` };
}

async function bubblewrap(): Promise<Check> {
  const id = 'bwrap';
  const { said, ok } = await attempt(['bwrap', '--version']);
  if (!ok) return { ...installed(id), ok: false };
  const [, major = '0', minor = '0'] = /(\d+)\.(\d+)/.exec(said) ?? [];
  const [oldestMajor, oldestMinor] = OLDEST_BWRAP;
  const recent =
    Number(major) > oldestMajor || (Number(major) === oldestMajor && Number(minor) >= oldestMinor);
  if (recent) return { id, ok: true, why: said.trim() };
  return {
    id,
    ok: false,
    why: `${said.trim()} cannot switch user namespaces off inside; 0.8.0 can`,
    hint: 'apt-get install bubblewrap, from a newer release',
  };
}

const inNamespaces = (...argv: readonly string[]): readonly string[] => [
  ...dropping(),
  ...['unshare', '--user', '--map-root-user', '--net', '--', ...argv],
];

/** As root the tries are made as the overflow uid: what root may do says nothing. */
function dropping(): readonly string[] {
  if (process.getuid?.() !== 0) return [];
  return [
    'setpriv',
    '--reuid',
    '65534',
    '--regid',
    '65534',
    '--clear-groups',
    '--no-new-privs',
    '--',
  ];
}

async function userNamespaces(): Promise<Check> {
  const id = 'user-namespaces';
  const { ok, said } = await attempt(inNamespaces('true'));
  if (ok) return { id, ok, why: 'an ordinary user can make them' };
  const { message, hint } = namespaceRefusal(said);
  return { id, ok, why: `${message}; they are the sandbox's walls: ${lastLine(said)}`, hint };
}

async function veth(): Promise<Check> {
  const id = 'veth';
  const { ok, said } = await attempt(inNamespaces('ip', 'link', 'add', 'v0', 'type', 'veth'));
  if (ok) return { id, ok, why: 'network namespaces can be joined' };
  return failed(id, `ip: ${said}`);
}

async function tproxy(): Promise<Check> {
  const id = 'tproxy';
  const { ok, said } = await attempt(inNamespaces('nft', '-f', '-'), LINK_RULES);
  if (ok) return { id, ok, why: 'every port is covered' };
  return failed(id, `nft: ${said}`, 'no port is covered, so nothing can be started');
}

async function transparentListener(): Promise<Check> {
  const id = 'transparent-listener';
  const listen = ['perl', '-e', HOLD_AND_LISTEN, '--', String(LISTENER_PORT), 'true'];
  const { ok, said } = await attempt(inNamespaces(...listen));
  if (ok) return { id, ok, why: 'both address families' };
  return failed(id, said);
}

function failed(id: string, said: string, more = ''): Check {
  const { message, hint } = hostFailure(id, said);
  const why = more === '' ? message : `${message}: ${more}`;
  return { id, ok: false, why, ...(hint === undefined ? {} : { hint }) };
}

/** Freeze and kill in one write each need a cgroup v2 folder that we may write. */
function cgroup(): Check {
  const id = 'cgroup';
  // A run works without one, with less.
  const why = 'none writable: a freeze goes through the pid namespace';
  const hint = 'run under systemd with Delegate=yes, or start as root';
  try {
    const folder = delegatedCgroup();
    if (folder === undefined) return { id, ok: true, why, hint };
    return { id, ok: true, why: folder };
  } catch (error) {
    return { id, ok: true, why: `${why} (${reasonOf(error)})`, hint };
  }
}

/** Without a controller each process has a limit of its own: a run as a whole has none. */
function limits(): Check {
  const id = 'limits';
  const found = limitedByCgroup();
  if (found.length === 2) return { id, ok: true, why: 'processes and memory, by cgroup' };
  const missing = (['processes', 'memoryBytes'] as const).filter((name) => !found.includes(name));
  const what = missing.map((name) => (name === 'processes' ? 'processes' : 'memory')).join(' and ');
  const hint = 'run under systemd with Delegate=yes, or start as root';
  return { id, ok: true, why: `weak: no cgroup limits ${what}`, hint };
}

const lastLine = (said: string): string => said.trim().split('\n').at(-1) ?? '';

function attempt(
  argv: readonly string[],
  input = '',
): Promise<{ readonly ok: boolean; readonly said: string }> {
  const [program = '', ...args] = argv;
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: '/', env: TOOL_ENV, timeout: TRY_MS });
    let said = '';
    const hear = (chunk: Buffer): void => {
      if (said.length < 4096) said += chunk.toString('utf8');
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('error', (error) => resolve({ ok: false, said: error.message }));
    child.on('close', (status) => resolve({ ok: status === 0, said }));
    child.stdin.on('error', () => {}); // a tool that ended early: its status says why
    child.stdin.end(input);
  });
}
