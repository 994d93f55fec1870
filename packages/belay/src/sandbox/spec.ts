// What a sandbox is asked to be, and what one is. The launcher is trusted; the command is not.

import type { RunId } from '../core/ids.ts';
import type { Limits, RunCgroups } from './cgroup.ts';
import type { GitHost } from './git-config.ts';
import type { LostMask } from './mask-watch.ts';
import type { ProbeCheck, ProbeTargets } from './probe.ts';
import type { HomeFile } from './profiles/profile.ts';

export interface SandboxSpec {
  readonly run: RunId;
  /** Private to the run; holds `gw.sock`. Files are written to it and removed at the end. */
  readonly runDir: string;
  /** Holds `ca.pem`, `bundle.pem` and `certs/`. */
  readonly trustDir: string;
  /** The workspace; a symbolic link is resolved first. */
  readonly workdir: string;
  /** Hosts whose ssh remotes git reaches by HTTPS. */
  readonly gitHosts?: readonly GitHost[];
  /** In the workspace: what the configuration names that the agent may not write. */
  readonly protect?: readonly { readonly path: string; readonly kind: 'file' | 'dir' }[];
  /** In the workspace: other files of secrets, which appear empty. */
  readonly hide?: readonly string[];
  /** In the workspace: sockets and pipes that lead to processes of the host. */
  readonly close?: readonly string[];
  /** Folders of the workspace that are repositories of their own. */
  readonly repositories?: readonly string[];
  /** The agent's home, bound at /home/agent. */
  readonly home: string;
  /** What the probe tries before the command may start; absent: nothing is tried. */
  readonly probe?: ProbeTargets;
  /** Put into the home, inside, before the command starts. */
  readonly homeFiles?: readonly HomeFile[];
  /** `command[0]` is a path that exists inside, or a name that the PATH inside finds. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Paths outside /usr that the command needs; bound at their own place. */
  readonly readOnly: readonly string[];
  /** Paths of the host that the agent may write; nothing in them is protected. */
  readonly writable?: readonly string[];
  /** Whom the bridge and the agent run as; given exactly when the caller is root. */
  readonly uid?: { readonly uid: number; readonly gid: number };
  /** The workspace belongs to uid 0: bind it with the ids exchanged. */
  readonly idmap?: boolean;
  readonly tty: boolean;
  /** What the agent joins. */
  readonly cgroups?: RunCgroups;
  /** Set as resource limits of its processes, as far as no cgroup sets them. */
  readonly limits?: Limits;
  /** By path, the ids of files that were judged by these names and have to be found there inside. */
  readonly judged?: Readonly<Record<string, string>>;
  /** Hears of masks that were taken away from outside; one that was not restored ends the run. */
  readonly onLostMasks?: (lost: readonly LostMask[]) => void;
  /** The command's stdin, stdout and stderr: descriptors of the caller. Default 0, 1, 2. */
  readonly stdio?: readonly [number, number, number];
}

export interface SandboxEnd {
  /** 128 + n for a signal. */
  readonly status: number;
  /** Whether the command was ever started. */
  readonly ran: boolean;
  readonly reason: 'exited' | 'killed' | 'bridge' | 'setup';
  readonly message?: string;
}

export interface Sandbox extends AsyncDisposable {
  /** The bridge, which holds both network namespaces' user namespace. */
  readonly holderPid: number;
  /** Holds the agent's network namespace. */
  readonly agentNetPid: number;
  /** The first process of the sandbox's outer pid namespace, as the host counts. */
  readonly childPid: number;
  /** The cgroup (v2) that the agent joined. */
  readonly cgroup: string | undefined;
  /** What the probe found; all of it held. */
  readonly probed: readonly ProbeCheck[];
  /** Lets the command start; once. */
  open(): void;
  readonly ended: Promise<SandboxEnd>;
  /** Resolves when no process of the run is left. */
  kill(): Promise<void>;
}
