// Everything that the demo puts on the disk, in one temporary folder: a project with a git
// repository and its policy, the agent's tools, a Belay home of its own. Started as root, the
// project belongs to the agents' user, so that agent, victims and controls are one uid.

import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Owner } from '../control/home.ts';
import { commandBinds, within } from '../sandbox/command.ts';
import { copyPackage, type FoundPackages, MCP_SERVER } from './packages.ts';
import { STRANGERS } from './scenes.ts';

export interface Stage extends Disposable {
  readonly root: string;
  readonly home: string;
  readonly workspace: string;
  /** The same project again, for the controls. */
  readonly copy: string;
  readonly agent: string;
  readonly mcpServer: string;
  configure(ports: Ports): void;
}

export interface Ports {
  readonly github: number;
  readonly slack: number;
  readonly files: number;
  readonly strangers: number;
}

/** The agent's first line asks for `node`: it is the one that runs this. */
export const RUN_PATH = `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
export const PRE_COMMIT = '#!/bin/sh\nexec npm test\n';
export const MCP_JSON = '{ "mcpServers": {} }\n';

export function setStage(packages: FoundPackages, owner: Owner | undefined, keep: boolean): Stage {
  const root = mkdtempSync(join(tmpdir(), 'belay-demo-'));
  chmodSync(root, owner === undefined ? 0o700 : 0o711);
  const at = (name: string): string => join(root, name);
  const tools = at('tools');
  const source = fileURLToPath(new URL('./inside/', import.meta.url));
  cpSync(source, tools, { recursive: true, filter: (path) => !path.endsWith('.d.ts') });
  write(join(tools, 'package.json'), '{ "type": "module" }\n');
  const agent = join(tools, 'agent.js');
  chmodSync(agent, 0o755);
  const projects = [at('rope'), at('copy')];
  for (const project of projects) {
    makeProject(project);
    if (owner !== undefined) giveTo(project, owner);
  }
  const [workspace, copy] = projects as [string, string];
  // What the sandbox shows with `node` need not be copied; 1700 files take a slow disk seconds.
  const place = { cwd: workspace, home: homedir(), workdir: workspace };
  const shown = commandBinds([agent], RUN_PATH, place).readOnly;
  const server = shown.some((folder) => within(packages.mcpServer, folder))
    ? packages.mcpServer
    : copyPackage(packages.mcpServer, MCP_SERVER.name, tools);
  return {
    root,
    home: at('home'),
    workspace,
    copy,
    agent,
    mcpServer: join(server, 'dist', 'index.js'),
    configure(ports) {
      write(join(workspace, 'belay.jsonc'), configText(ports));
      write(join(workspace, 'policies', 'demo.cedar'), POLICY);
    },
    [Symbol.dispose]() {
      if (!keep) rmSync(root, { recursive: true, force: true });
    },
  };
}

/** The smallest repository that git accepts, with a hook and an agent's configuration in it. */
function makeProject(project: string): void {
  for (const folder of ['.git/objects', '.git/refs/heads']) {
    mkdirSync(join(project, folder), { recursive: true });
  }
  write(join(project, '.git/HEAD'), 'ref: refs/heads/main\n');
  write(join(project, '.git/config'), '[core]\n\trepositoryformatversion = 0\n\tbare = false\n');
  write(join(project, '.git/hooks/pre-commit'), PRE_COMMIT);
  chmodSync(join(project, '.git/hooks/pre-commit'), 0o755);
  write(join(project, '.mcp.json'), MCP_JSON);
  write(join(project, 'README.md'), '# rope\n');
}

function write(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

function giveTo(folder: string, { uid, gid }: Owner): void {
  const below = readdirSync(folder, { recursive: true, withFileTypes: true });
  for (const entry of below) chownSync(join(entry.parentPath, entry.name), uid, gid);
  chownSync(folder, uid, gid);
}

/** What the demo's agent may do. The strangers are declared too, so that policy alone stops it. */
function configText({ github, slack, files, strangers }: Ports): string {
  const local = (port: number) => ({ address: `127.0.0.1:${port}`, scheme: 'http' });
  const config = {
    version: 1,
    agents: { demo: { environment: 'demo' } },
    environments: { demo: {} },
    grants: [{ agent: 'demo', environment: 'demo', caps: { calls: 100, bytes: '8GiB' } }],
    credentials: {
      github: {
        from: 'env:DEMO_GITHUB_KEY',
        environment: 'demo',
        host: 'api.github.com',
        methods: ['GET', 'POST', 'DELETE'],
        paths: ['/**'],
        header: 'authorization',
        format: 'Bearer {}',
        variable: 'GITHUB_TOKEN',
      },
    },
    upstreams: {
      'api.github.com': local(github),
      'slack.com': local(slack),
      'files.example': local(files),
      ...Object.fromEntries(STRANGERS.map((host) => [host, local(strangers)])),
    },
  };
  return `// What the demo's agent may do; policies/demo.cedar says the rest.\n${JSON.stringify(config, null, 2)}\n`;
}

const POLICY = `// Exactly what the honest work needs. Everything else is denied.
@id("read-issues")
permit (principal == Agent::"demo", action in Action::"http", resource == Host::"api.github.com")
when { context.method == "GET" && context.path like "/repos/acme/rope/issues*" };

@id("comment-on-issues")
permit (principal == Agent::"demo", action in Action::"http", resource == Host::"api.github.com")
when { context.method == "POST" && context.path like "/repos/acme/rope/issues/*/comments" };

@id("read-files")
permit (principal == Agent::"demo", action in Action::"http", resource == Host::"files.example")
when { context.method == "GET" };
`;
