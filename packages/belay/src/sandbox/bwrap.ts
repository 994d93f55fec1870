// The agent's view of the machine, as arguments for bubblewrap: /usr and a few files of /etc to
// read, the workspace and a home of its own to write, protected names on top, and nothing else. No
// capability, no further user namespace, no variable of the caller, uid 1000. Sources that another
// uid could not reach are passed through `at`, which names the place where they were staged.

import { existsSync, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { AGENT_PATH } from './command.ts';
import type { Covering } from './cover.ts';
import { type GitHost, gitConfig } from './git-config.ts';
import { BRIDGE_ADDRESS } from './link.ts';
import type { MaskPlan } from './masks.ts';
import { GATE } from './perl.ts';
import type { HomeFile } from './profiles/profile.ts';
import type { SandboxSpec } from './spec.ts';

/** Descriptors that bwrap and the gate inherit. */
export const FD = { filter: 3, args: 4, status: 5, gate: 6, stderr: 7 } as const;

export const AGENT_HOME = '/home/agent';
const AGENT_ID = '1000';
const HOST_NAME = 'belay';

const READ_FROM_ETC = [
  ...['ld.so.cache', 'ld.so.conf', 'ld.so.conf.d', 'alternatives', 'ssl/openssl.cnf'],
  ...['services', 'protocols', 'mime.types', 'localtime', 'timezone', 'os-release'],
];

/**
 * How the host was booted, and the names of the user's keys: of no use to an agent. What is mounted
 * over them is a device, which no mount of the sandbox lets be opened.
 */
const HIDDEN_IN_PROC = ['cmdline', 'keys', 'key-users'];

/** Files that are generated for the run; none holds a secret. */
export function etcFiles(
  ignored: readonly string[],
  gitHosts: readonly GitHost[],
): Readonly<Record<string, string>> {
  return {
    passwd: `agent:x:${AGENT_ID}:${AGENT_ID}::${AGENT_HOME}:/bin/bash\n`,
    group: `agent:x:${AGENT_ID}:\n`,
    hosts: `127.0.0.1 localhost ${HOST_NAME}\n::1 localhost ${HOST_NAME}\n`,
    hostname: `${HOST_NAME}\n`,
    'resolv.conf': `nameserver ${BRIDGE_ADDRESS}\n`,
    'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\nservices: files\n',
    gitconfig: gitConfig(gitHosts),
    'belay-ignore': ignored.map((path) => `/${path}\n`).join(''),
  };
}

/** Where an agent finds the authorities that it trusts; `folder` holds ca.pem and bundle.pem. */
export function trustVariables(folder: string): Readonly<Record<string, string>> {
  const bundle = join(folder, 'bundle.pem');
  return {
    SSL_CERT_FILE: bundle,
    REQUESTS_CA_BUNDLE: bundle,
    PIP_CERT: bundle,
    CURL_CA_BUNDLE: bundle,
    GIT_SSL_CAINFO: bundle,
    NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem'),
  };
}

export function agentEnvironment(spec: SandboxSpec): Readonly<Record<string, string>> {
  return {
    PATH: AGENT_PATH,
    HOME: AGENT_HOME,
    USER: 'agent',
    LOGNAME: 'agent',
    SHELL: '/bin/bash',
    LANG: 'C.UTF-8',
    TERM: spec.tty ? 'xterm-256color' : 'dumb',
    ...spec.env,
    ...trustVariables('/run/belay'),
  };
}

/** The generated file that stands in the place of a file of secrets. */
export function shownFile(index: number): string {
  return `shown-${index}`;
}

/** The generated folder that is seen in the place of a placeholder. */
export function heldFolder(index: number): string {
  return `held-${index}`;
}

/** The generated file that goes into the agent's home. */
export function homeFile(index: number): string {
  return `home-${index}`;
}

/** No mount of the sandbox lets a device be opened. */
const NULL_DEVICE = '/dev/null';

export interface PutOver extends Covering {
  readonly source: string;
}

/** What is seen in the place of names that show something else. */
export function putOver(masks: MaskPlan, filesDir: string): readonly PutOver[] {
  const ours = (name: string): string => join(filesDir, name);
  return [
    ...masks.placeholders.flatMap(({ path, holds }, i): PutOver[] =>
      holds === undefined ? [] : [{ kind: 'close', path, source: ours(heldFolder(i)) }],
    ),
    ...masks.shown.map(
      ({ path }, i): PutOver => ({ kind: 'hide', path, source: ours(shownFile(i)) }),
    ),
    ...masks.closed.map((path): PutOver => ({ kind: 'hide', path, source: NULL_DEVICE })),
  ];
}

/** Where a source is found by bwrap: `root` is one of the staged sources, `path` lies in it. */
export type At = (root: string, path?: string) => string;

export interface View {
  readonly spec: SandboxSpec;
  /** The workspace's real path. */
  readonly workdir: string;
  /** The folder with the generated files. */
  readonly filesDir: string;
  readonly masks: MaskPlan;
  readonly at: At;
}

export function bwrapArguments({ spec, workdir, filesDir, masks, at }: View): readonly string[] {
  return [
    ...['--unshare-all', '--share-net', '--unshare-user', '--disable-userns', '--cap-drop', 'ALL'],
    ...['--die-with-parent', '--clearenv', '--uid', AGENT_ID, '--gid', AGENT_ID],
    ...['--hostname', HOST_NAME],
    // On a terminal the agent stays in the caller's session: its own would have no /dev/tty. The
    // filter refuses to push input into the terminal.
    ...(spec.tty ? [] : ['--new-session']),
    ...['--tmpfs', '/', ...systemFolders(), '--dir', '/etc'],
    ...READ_FROM_ETC.concat(javaSettings())
      .map((name) => `/etc/${name}`)
      .filter((path) => existsSync(path))
      .flatMap((path) => ['--ro-bind', path, path]),
    ...Object.keys(etcFiles([], [])).flatMap((name) => [
      ...['--ro-bind', at(filesDir, join(filesDir, 'etc', name)), `/etc/${name}`],
    ]),
    // A uid 0 of the host is never mapped, and /proc/sys is closed even so.
    ...['--proc', '/proc', '--ro-bind', '/proc/sys', '/proc/sys', '--dev', '/dev'],
    ...HIDDEN_IN_PROC.map((name) => `/proc/${name}`)
      .filter((path) => existsSync(path))
      .flatMap((path) => ['--ro-bind', '/dev/null', path]),
    ...['--tmpfs', '/tmp', '--tmpfs', '/var/tmp', '--dir', '/run'],
    ...['--bind', at(spec.home), AGENT_HOME],
    ...spec.readOnly.flatMap((path) => ['--ro-bind', at(path), path]),
    ...(spec.writable ?? []).flatMap((path) => ['--bind', at(path), path]),
    // Its protected names are covered before the command may start (cover.ts).
    ...['--bind', at(workdir), workdir],
    ...putOver(masks, filesDir).flatMap(({ path, source }) => [
      ...['--ro-bind', source === NULL_DEVICE ? source : at(filesDir, source), path],
    ]),
    ...['ca.pem', 'bundle.pem'].flatMap((name) => [
      ...['--ro-bind', at(spec.trustDir, join(spec.trustDir, name)), `/run/belay/${name}`],
    ]),
    ...['--ro-bind', at(spec.trustDir, join(spec.trustDir, 'certs')), '/etc/ssl/certs'],
    ...(spec.homeFiles ?? []).flatMap((_, i) => [
      ...['--ro-bind', at(filesDir, join(filesDir, homeFile(i))), `/run/belay/${homeFile(i)}`],
    ]),
    ...Object.entries(agentEnvironment(spec)).flatMap(([name, value]) => ['--setenv', name, value]),
    ...['--chdir', workdir, '--remount-ro', '/'],
    ...['--json-status-fd', String(FD.status), '--seccomp', String(FD.filter)],
  ];
}

/** /usr, and /bin, /lib and their like as this host has them: links, or folders of their own. */
function systemFolders(): readonly string[] {
  const out = ['--ro-bind', '/usr', '/usr'];
  for (const name of ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32']) {
    const found = lstatSync(`/${name}`, { throwIfNoEntry: false });
    if (found?.isSymbolicLink()) out.push('--symlink', readlinkSync(`/${name}`), `/${name}`);
    else if (found?.isDirectory()) out.push('--ro-bind', `/${name}`, `/${name}`);
  }
  return out;
}

function javaSettings(): readonly string[] {
  return readdirSync('/etc').filter((name) => /^java-[0-9a-z-]+$/.test(name));
}

/** The command behind its gate, as bwrap's own command. */
export function gated(
  command: readonly string[],
  homeFiles: readonly HomeFile[],
): readonly string[] {
  const fds = [FD.gate, FD.stderr, FD.filter].map(String);
  const files = homeFiles.flatMap(({ when, path }) => [when, path]);
  const home = ['/run/belay/home', String(homeFiles.length), ...files];
  return ['/usr/bin/perl', '-e', GATE, '--', ...fds, ...home, ...command];
}
