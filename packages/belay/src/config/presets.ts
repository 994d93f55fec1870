// Presets: named, reviewable sets of routes that grants are composed from. This file is data. A
// route is HTTPS on port 443; its host may start with `*.` (any name below, not the name itself);
// paths are patterns as in glob.ts. No preset publishes a package; the one that uploads anything names
// the refs that it pushes to.

import type { EffectClass } from '../core/call.ts';
import { AGENT_BRANCHES } from '../core/push.ts';
import type { ModelDialect } from '../core/verdict.ts';

export interface PresetRoute {
  readonly host: string;
  readonly methods: readonly string[];
  readonly paths: readonly string[];
  /** Each key occurs in the query exactly once, with exactly this value. */
  readonly query?: Readonly<Record<string, string>>;
  readonly effect: EffectClass;
  /** Of a model call: the shape of this provider's errors. */
  readonly model?: ModelDialect;
  /** Of a push: the refs that it may make or move forward; as in a grant, `*` also across slashes. */
  readonly refs?: readonly string[];
  /** Why the effect is what it is. */
  readonly reason: string;
}

export interface Preset {
  readonly name: string;
  readonly description: string;
  readonly routes: readonly PresetRoute[];
}

const READ = ['GET', 'HEAD'] as const;

const modelAnthropic: Preset = {
  name: 'model:anthropic',
  description: 'inference at api.anthropic.com, and what Claude Code asks there when it starts',
  routes: [
    {
      host: 'api.anthropic.com',
      methods: ['POST'],
      paths: ['/v1/messages', '/v1/messages/count_tokens'],
      effect: 'read',
      model: 'anthropic',
      reason: 'model inference',
    },
    {
      host: 'api.anthropic.com',
      methods: ['GET'],
      paths: ['/v1/models', '/v1/models/*'],
      effect: 'read',
      model: 'anthropic',
      reason: 'list of models',
    },
    {
      host: 'api.anthropic.com',
      methods: READ,
      paths: [
        '/',
        '/api/hello',
        '/api/claude_cli/bootstrap',
        '/api/claude_code/policy_limits',
        '/api/claude_code/settings',
        '/api/claude_code/organizations/metrics_enabled',
        '/api/claude_code_penguin_mode',
        '/mcp-registry/v0/servers',
      ],
      effect: 'read',
      reason: 'start-up of Claude Code',
    },
    {
      host: 'api.anthropic.com',
      methods: ['GET', 'POST'],
      paths: ['/api/eval/sdk-*'],
      effect: 'read',
      reason: 'feature flags of Claude Code',
    },
    {
      host: 'platform.claude.com',
      methods: READ,
      paths: ['/v1/oauth/hello'],
      effect: 'read',
      reason: 'start-up of Claude Code',
    },
  ],
};

const npmRead: Preset = {
  name: 'npm-read',
  description: 'metadata and packages of the npm registry',
  routes: [
    {
      host: 'registry.npmjs.org',
      methods: READ,
      paths: ['/**'],
      effect: 'read',
      reason: 'read of the npm registry',
    },
  ],
};

const pypiRead: Preset = {
  name: 'pypi-read',
  description: 'the index and the files of PyPI, as pip and uv ask for them',
  routes: [
    {
      host: 'pypi.org',
      methods: READ,
      paths: ['/simple/', '/simple/*/', '/pypi/*/json', '/pypi/*/*/json'],
      effect: 'read',
      reason: 'read of the PyPI index',
    },
    {
      host: 'files.pythonhosted.org',
      methods: READ,
      paths: ['/packages/**'],
      effect: 'read',
      reason: 'file of a Python package',
    },
  ],
};

const cratesRead: Preset = {
  name: 'crates-read',
  description: 'the index and the files of crates.io, as cargo asks for them',
  routes: [
    {
      host: 'index.crates.io',
      methods: READ,
      paths: ['/**'],
      effect: 'read',
      reason: 'read of the index of crates.io',
    },
    {
      host: 'static.crates.io',
      methods: READ,
      paths: ['/crates/**'],
      effect: 'read',
      reason: 'file of a crate',
    },
    {
      host: 'crates.io',
      methods: READ,
      paths: ['/api/v1/crates/*', '/api/v1/crates/*/*/download'],
      effect: 'read',
      reason: 'read of crates.io',
    },
  ],
};

const debianRead: Preset = {
  name: 'debian-read',
  description: 'the archive of Debian over https, as apt asks for it',
  routes: [
    {
      host: 'deb.debian.org',
      methods: READ,
      paths: ['/debian/**', '/debian-security/**'],
      effect: 'read',
      reason: 'read of the archive of Debian',
    },
    {
      host: 'security.debian.org',
      methods: READ,
      paths: ['/debian-security/**'],
      effect: 'read',
      reason: 'read of the archive of Debian',
    },
  ],
};

const githubRead: Preset = {
  name: 'github-read',
  description: 'the GitHub API, raw files, archives, and git clone and fetch',
  routes: [
    {
      host: 'api.github.com',
      methods: READ,
      paths: ['/**'],
      effect: 'read',
      reason: 'read of the GitHub API',
    },
    {
      host: 'github.com',
      methods: ['GET'],
      paths: ['/*/*/info/refs'],
      query: { service: 'git-upload-pack' },
      effect: 'read',
      reason: 'git fetch',
    },
    {
      host: 'github.com',
      methods: ['POST'],
      paths: ['/*/*/git-upload-pack'],
      effect: 'read',
      reason: 'git fetch',
    },
    {
      host: 'codeload.github.com',
      methods: READ,
      paths: ['/**'],
      effect: 'read',
      reason: 'archive of a repository',
    },
    {
      host: 'raw.githubusercontent.com',
      methods: READ,
      paths: ['/**'],
      effect: 'read',
      reason: 'file of a repository',
    },
    {
      host: 'objects.githubusercontent.com',
      methods: READ,
      paths: ['/**'],
      effect: 'read',
      reason: 'object of a repository',
    },
  ],
};

const githubWriteBranch: Preset = {
  name: 'github-write-branch',
  description: 'git push to branches below agent/, and opening pull requests; with github-read',
  routes: [
    {
      host: 'github.com',
      methods: ['GET'],
      paths: ['/*/*/info/refs'],
      query: { service: 'git-receive-pack' },
      effect: 'read',
      reason: 'refs of a repository, before a git push',
    },
    {
      host: 'github.com',
      methods: ['POST'],
      paths: ['/*/*/git-receive-pack'],
      effect: 'write',
      refs: [`${AGENT_BRANCHES}*`],
      reason: 'git push',
    },
    {
      host: 'api.github.com',
      methods: ['POST'],
      paths: ['/repos/*/*/pulls'],
      effect: 'write',
      reason: 'opening a pull request',
    },
  ],
};

const modelOpenai: Preset = {
  name: 'model:openai',
  description: 'inference at api.openai.com',
  routes: [
    {
      host: 'api.openai.com',
      methods: ['POST'],
      paths: ['/v1/responses', '/v1/chat/completions'],
      effect: 'read',
      model: 'openai',
      reason: 'model inference',
    },
    {
      host: 'api.openai.com',
      methods: ['GET'],
      paths: ['/v1/models', '/v1/models/*'],
      effect: 'read',
      model: 'openai',
      reason: 'list of models',
    },
  ],
};

const modelChatgpt: Preset = {
  name: 'model:chatgpt',
  description: 'inference at chatgpt.com, as Codex asks for it when its user is signed in there',
  routes: [
    {
      host: 'chatgpt.com',
      methods: ['POST'],
      paths: ['/backend-api/codex/responses'],
      effect: 'read',
      model: 'openai',
      reason: 'model inference',
    },
    {
      host: 'chatgpt.com',
      methods: ['GET'],
      paths: ['/backend-api/codex/models'],
      effect: 'read',
      model: 'openai',
      reason: 'list of models',
    },
    {
      host: 'chatgpt.com',
      methods: ['GET'],
      paths: ['/backend-api/wham/accounts/check'],
      effect: 'read',
      reason: 'what Codex asks before it asks the model',
    },
  ],
};

const modelGoogle: Preset = {
  name: 'model:google',
  description: 'inference at generativelanguage.googleapis.com',
  routes: [
    {
      host: 'generativelanguage.googleapis.com',
      methods: ['POST'],
      paths: [
        '/v1beta/models/*:generateContent',
        '/v1beta/models/*:streamGenerateContent',
        '/v1beta/models/*:countTokens',
      ],
      effect: 'read',
      model: 'google',
      reason: 'model inference',
    },
    {
      host: 'generativelanguage.googleapis.com',
      methods: ['GET'],
      paths: ['/v1beta/models', '/v1beta/models/*'],
      effect: 'read',
      model: 'google',
      reason: 'list of models',
    },
  ],
};

export const PRESETS: readonly Preset[] = [
  modelAnthropic,
  modelOpenai,
  modelChatgpt,
  modelGoogle,
  npmRead,
  pypiRead,
  cratesRead,
  debianRead,
  githubRead,
  githubWriteBranch,
];

export function presetNamed(name: string): Preset | undefined {
  return PRESETS.find((preset) => preset.name === name);
}
