// Makes a run out of what its launcher asked: grant, judge, budgets, vault. Nothing is registered
// yet, and every refusal happens here, before anything of the run exists.

import { budgetScope, type RunCaps } from '../budget/budgets.ts';
import { parseBundle } from '../config/bundle.ts';
import type { Config, UpstreamConfig } from '../config/config.ts';
import { type Selected, selectGrant } from '../config/select.ts';
import { BelayError } from '../core/errors.ts';
import type { RunId } from '../core/ids.ts';
import { type Host, hostPort, isAddress } from '../core/target.ts';
import { TOKEN_LIFE_MS } from '../identity/proxy-tokens.ts';
import type { Grant } from '../identity/runs.ts';
import { narrowedGrant } from '../identity/sub-run.ts';
import { newDenials } from '../monitor/denials.ts';
import type { Engine } from '../policy/engine.ts';
import { allowedTo, policyForRun } from '../policy/for-run.ts';
import { judgeFor } from '../policy/policy.ts';
import { remedyFor } from '../policy/remedy.ts';
import { within } from '../policy/within.ts';
import { refusedAddress } from '../upstream/addresses.ts';
import type { Declared } from '../upstream/upstream.ts';
import type { CredentialSpec } from '../vault/credential.ts';
import { createVault } from '../vault/vault.ts';
import type { DaemonRun } from './daemon-run.ts';
import type { DailyBudget } from './daily-budget.ts';
import type { Home } from './home.ts';
import type { Logins } from './logins.ts';
import type { Placeholders } from './placeholders.ts';
import type { OpenRun, RunNotice } from './protocol.ts';
import { parentFor } from './sub-run.ts';
import { createTally } from './tally.ts';

export interface RunRequest {
  readonly id: RunId;
  readonly request: OpenRun;
  readonly notify: (notice: RunNotice) => void;
  readonly home: Home;
  readonly shared: DailyBudget;
  readonly engine: Engine;
  readonly now: number;
  readonly placeholders: Placeholders;
  /** The open run of that name. */
  readonly runOf: (id: RunId) => DaemonRun | undefined;
  readonly logins: Logins;
}

/** Days of an agent that asks once a second for what it is refused; a hundred megabytes or so. */
const MOST_DENIALS = 100_000;
/** An agent that starts asks a dozen hosts that it can do without. */
const MOST_DENIALS_A_MINUTE = 100;

/** Throws ERR_CONFIG, ERR_USAGE, ERR_NOT_FOUND or ERR_SECRET with what is wrong. */
export function prepareRun(asked: RunRequest): DaemonRun {
  const { id, request, notify, home, shared, now, placeholders, logins } = asked;
  const config = parseBundle(request.bundle);
  const selected = selectGrant(config, request);
  const { agent, environment } = selected;
  if (request.containment === 'external' && config.environments.get(environment)?.sandboxRequired) {
    throw new BelayError('ERR_USAGE', `runs in \`${environment}\` have to be in a sandbox`, {
      hint: 'leave --containment away, or name another environment with --env',
    });
  }
  const configDigest = bundleDigestOf(request.bundle);
  const parent =
    request.parent === undefined
      ? undefined
      : parentFor({ ...request, parent: request.parent }, configDigest, asked.runOf);
  const grant = grantOf(selected, request, parent, now);
  const policy = policyForRun(asked.engine, config, selected, request.allow);
  const judge = judgeFor(policy, { agent, environment, shadow: grant.mode === 'shadow' });
  const caps = tightest(selected.grant?.caps ?? {}, request.caps);
  const own = budgetScope(id, caps);
  const scope = { agent, environment, workdir: request.workdir };
  const credentials = credentialsOf(config, environment, request.secrets);
  const placeholderOf = (name: string, value?: string) => placeholders(scope, name, value);
  // Nothing that follows throws: whoever joins leaves.
  const login =
    request.login &&
    logins.join(
      {
        ...{ run: id, environment, placeholderOf, notify },
        renew: (values) => vault.renew(values),
      },
      request.login,
    );
  const vault = createVault([...credentials, ...(login?.credentials ?? [])], placeholderOf);
  const upstreams = [...config.upstreams.values()];
  return {
    id,
    grant,
    containment: request.containment,
    // The guard holds sandboxes; an agent outside has none.
    guarded: request.containment === 'external',
    registration: undefined,
    state: 'open',
    // What stops a parent stops its sub-runs, and what they use up is the parent's too.
    scopes: [
      ...(parent?.scopes ?? [{ kind: 'global' }, { kind: 'environment', name: environment }]),
      { kind: 'agent', name: agent },
      { kind: 'run', name: id },
    ],
    // The day may change while a run is open.
    get budgets() {
      return [...(parent?.budgets ?? [shared()]), own];
    },
    judge: parent === undefined ? judge : within(judge, parent.judge, parent.id),
    vault,
    declared: declaredOf(upstreams),
    plain: new Set(upstreams.filter(({ scheme }) => scheme === 'http').map(({ host }) => host)),
    tunnels: new Map(
      allowedTo(selected, request.allow).flatMap((entry) =>
        entry.kind === 'tunnel' ? [[hostPort(entry), entry.scheme] as const] : [],
      ),
    ),
    caps,
    denials: newDenials(caps.denials, caps.denialsPerMinute),
    configDigest,
    workdir: request.workdir,
    paths: request.paths,
    ...(parent === undefined ? {} : { parent }),
    ...(request.login === undefined || login === undefined
      ? {}
      : { login: { agent: request.login.agent, file: request.login.file } }),
    opened: {
      kind: 'opened',
      run: id,
      agent,
      environment,
      mode: grant.mode,
      trustDir: home.trust,
      variables: vault.placeholders(),
      ...(login === undefined ? {} : { login: login.placeholders }),
    },
    command: request.command,
    startedAt: now,
    // An address that the gateway refuses anyway is nothing to allow.
    tally: createTally(id, (head, { code }) =>
      isAddress(head.host) && refusedAddress(head.host) !== undefined
        ? null
        : remedyFor({ ...head, code }),
    ),
    notify,
    release: () => {
      vault.clear();
      policy[Symbol.dispose]();
    },
  };
}

/** A flag can only make a run more careful than its grant, and so can a parent. */
function grantOf(
  { agent, environment, grant }: Selected,
  { shadow, forMs, containment }: OpenRun,
  parent: DaemonRun | undefined,
  now: number,
): Grant {
  // A connection outlives the token that let it in, and not its grant.
  const most = least(forMs, containment === 'external' ? TOKEN_LIFE_MS : undefined);
  const expiresAt = least(grant?.expiresAt, most === undefined ? undefined : now + most);
  const own: Grant = {
    agent,
    environment,
    mode: shadow ? 'shadow' : (grant?.mode ?? 'live'),
    state: grant?.state ?? 'active',
    ...(expiresAt === undefined ? {} : { expiresAt }),
  };
  return parent === undefined ? own : narrowedGrant(own, parent, now);
}

function least(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.min(a, b);
}

/** A flag can only narrow what the grant says. */
function tightest(granted: Partial<RunCaps>, asked: Partial<RunCaps>): RunCaps {
  const calls = least(granted.calls, asked.calls);
  const bytes = least(granted.bytes, asked.bytes);
  return {
    ...(calls === undefined ? {} : { calls }),
    ...(bytes === undefined ? {} : { bytes }),
    denials: least(granted.denials, asked.denials) ?? MOST_DENIALS,
    denialsPerMinute: granted.denialsPerMinute ?? MOST_DENIALS_A_MINUTE,
  };
}

function credentialsOf(
  { credentials }: Config,
  environment: string,
  secrets: Readonly<Record<string, string>>,
) {
  return credentials
    .filter((credential) => credential.environment === environment)
    .map(({ mints, ...credential }): { spec: CredentialSpec; value: string } => {
      const { name } = credential;
      const spec =
        mints === undefined
          ? credential
          : {
              ...credential,
              mints: { kind: 'new', name, ...mints, keys: new Set(mints.keys) } as const,
            };
      const value = Object.hasOwn(secrets, spec.name) ? secrets[spec.name] : undefined;
      if (value === undefined) {
        throw new BelayError('ERR_SECRET', `credential \`${spec.name}\` came without its value`);
      }
      return { spec, value };
    });
}

function declaredOf(upstreams: readonly UpstreamConfig[]): Declared {
  return new Map(
    upstreams.map(({ host, address, port, authority }) => [
      host as Host,
      {
        address: hostPort({ host: address, port }),
        ...(authority === undefined ? {} : { tls: { ca: authority } }),
      },
    ]),
  );
}

/** The bundle was parsed before this is called, so that its digest is known to fit. */
function bundleDigestOf(bundle: unknown): string {
  return (bundle as { readonly digest: string }).digest;
}
