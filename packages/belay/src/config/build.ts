// From the right shape to a configuration that can be trusted: hosts and ports parsed, sizes and
// times turned into numbers, every name that is used declared, nothing declared twice. Reports all
// problems, not the first.

import { z } from 'zod';
import { reasonOf } from '../core/errors.ts';
import { type Host, isAddress, printable } from '../core/target.ts';
import { type AllowEntry, parseAllow } from './allow.ts';
import {
  checkMethods,
  checkPaths,
  HOST_PORT,
  hostAt,
  hostPortAt,
  isPort,
  type Report,
} from './checks.ts';
import type {
  AgentConfig,
  CapsConfig,
  Config,
  CredentialConfig,
  CredentialPlace,
  GrantConfig,
  SecretSource,
  UpstreamConfig,
} from './config.ts';
import type { Document, Path } from './document.ts';
import { anyPath } from './glob.ts';
import type { Problem } from './problem.ts';
import { buildRoutes } from './routes.ts';
import type {
  RawCaps,
  RawConfig,
  RawCredential,
  RawGrant,
  RawLimits,
  RawUpstream,
} from './schema.ts';
import { parseSize } from './size.ts';
import { didYouMean } from './suggest.ts';

const MOST_PROBLEMS = 100;

export function buildConfig(document: Document, raw: RawConfig): Config | readonly Problem[] {
  const problems: Problem[] = [];
  const report: Report = (path, message, hint) =>
    void (problems.length < MOST_PROBLEMS && problems.push(document.problem(path, message, hint)));
  const environments = new Map(
    Object.entries(raw.environments).map(([name, { sandbox }]) => [
      name,
      { sandboxRequired: sandbox === 'required' },
    ]),
  );
  const agents = new Map(
    Object.entries(raw.agents).map(([name, { environment, limits }]) => [
      name,
      { name, environment, limits: buildLimits(report, ['agents', name, 'limits'], limits) },
    ]),
  );
  for (const { name, environment } of agents.values()) {
    declared(report, ['agents', name, 'environment'], 'environment', environment, environments);
  }
  const grants = raw.grants.map((grant, i) => {
    const path = ['grants', i];
    declared(report, [...path, 'agent'], 'agent', grant.agent, agents);
    declared(report, [...path, 'environment'], 'environment', grant.environment, environments);
    return buildGrant(document, report, path, grant);
  });
  const seen = new Set<string>();
  for (const [i, { agent, environment }] of grants.entries()) {
    const key = `${agent} ${environment}`;
    if (seen.has(key)) {
      report(
        ['grants', i],
        `a second grant for \`${agent}\` in \`${environment}\``,
        'merge the two',
      );
    }
    seen.add(key);
  }
  const credentials = Object.entries(raw.credentials).map(([name, credential]) => {
    const path = ['credentials', name];
    const { environment } = credential;
    declared(report, [...path, 'environment'], 'environment', environment, environments);
    return buildCredential(document, report, path, name, credential);
  });
  variablesAreApart(report, credentials);
  const routes = buildRoutes(report, raw.routes);
  const upstreams = new Map<Host, UpstreamConfig>();
  for (const [text, upstream] of Object.entries(raw.upstreams)) {
    const built = buildUpstream(report, ['upstreams', text], text, upstream);
    if (built === undefined) continue;
    if (upstreams.has(built.host))
      report(['upstreams', text], `\`${built.host}\` is declared twice`);
    upstreams.set(built.host, built);
  }
  if (raw.policies !== undefined) checkFilePath(report, ['policies'], raw.policies);
  const caps = buildCaps(report, ['caps'], raw.caps);
  if (problems.length > 0) return problems;
  return {
    file: document.file,
    agents,
    environments,
    grants,
    credentials,
    routes,
    upstreams,
    ...(raw.policies === undefined ? {} : { policyDirectory: raw.policies }),
    policies: [],
    caps,
  };
}

function declared(
  report: Report,
  path: Path,
  what: 'agent' | 'environment',
  name: string,
  known: ReadonlyMap<string, unknown>,
): void {
  if (known.has(name)) return;
  const names = [...known.keys()];
  report(
    path,
    `unknown ${what} \`${printable(name)}\``,
    didYouMean(name, names) ?? `declare it under \`${what}s\``,
  );
}

function buildGrant(document: Document, report: Report, path: Path, raw: RawGrant): GrantConfig {
  const allow: AllowEntry[] = [];
  for (const [i, text] of raw.allow.entries()) {
    const at = [...path, 'allow', i];
    const entry = parseAllow(text, document.origin(at));
    if (entry.kind === 'fault') report(at, entry.message, entry.hint);
    else if (allow.some((other) => other.text === entry.text)) {
      report(at, `\`${entry.text}\` is allowed twice`, 'delete one of the two');
    } else allow.push(entry);
  }
  const expiresAt = raw.expires === undefined ? undefined : parseTime(raw.expires);
  if (raw.expires !== undefined && expiresAt === undefined) {
    const message = `\`${printable(raw.expires)}\` is not a date and time with a time zone`;
    report([...path, 'expires'], message, 'write it as `2027-01-01T00:00:00Z`');
  }
  return {
    origin: document.origin(path),
    agent: raw.agent,
    environment: raw.environment,
    allow,
    state: raw.state,
    mode: raw.mode,
    ...(expiresAt === undefined ? {} : { expiresAt }),
    caps: {
      ...buildCaps(report, [...path, 'caps'], raw.caps),
      ...(raw.caps.denials === undefined ? {} : { denials: raw.caps.denials }),
      ...(raw.caps.denialsPerMinute === undefined
        ? {}
        : { denialsPerMinute: raw.caps.denialsPerMinute }),
    },
  };
}

function parseTime(text: string): number | undefined {
  const parts = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)$/.exec(
    text,
  );
  if (parts === null) return undefined;
  const [, year, month, day] = parts.map(Number) as [number, number, number, number];
  // Date.parse turns February 30 into March 2; a date that does not exist is no expiry.
  if (day > new Date(Date.UTC(year, month, 0)).getUTCDate()) return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

function buildCaps(report: Report, path: Path, raw: RawCaps): CapsConfig {
  const bytes = buildSize(report, [...path, 'bytes'], raw.bytes);
  return {
    ...(raw.calls === undefined ? {} : { calls: raw.calls }),
    ...(bytes === undefined ? {} : { bytes }),
  };
}

const LEAST_MEMORY_BYTES = 64 * 1024 * 1024;

function buildLimits(report: Report, path: Path, raw: RawLimits): AgentConfig['limits'] {
  const memoryBytes = buildSize(report, [...path, 'memory'], raw.memory);
  if (memoryBytes !== undefined && memoryBytes < LEAST_MEMORY_BYTES) {
    report([...path, 'memory'], 'is less than 64MiB, in which nothing starts');
  }
  return {
    ...(raw.processes === undefined ? {} : { processes: raw.processes }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  };
}

function buildSize(
  report: Report,
  path: Path,
  raw: number | string | undefined,
): number | undefined {
  const bytes = typeof raw === 'string' ? parseSize(raw) : raw;
  if (raw !== undefined && bytes === undefined) {
    report(path, `\`${printable(String(raw))}\` is not a size`, 'write it as `100MB` or `1GiB`');
  }
  return bytes;
}

/** Headers that carry the message itself: a credential there would change what is sent. */
const FRAMING =
  /^(?:host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*|date|via)$/;

function buildCredential(
  document: Document,
  report: Report,
  path: Path,
  name: string,
  raw: RawCredential,
): CredentialConfig {
  const from = parseSource(raw.from);
  if (from === undefined) {
    // The text may be the secret itself, so it is not repeated.
    report(
      [...path, 'from'],
      '`from` must be `env:NAME`, `file:PATH` or `exec:PROGRAM ARGUMENTS`',
      'refer to the secret; never write it here',
    );
  }
  checkMethods(report, [...path, 'methods'], raw.methods);
  checkPaths(report, [...path, 'paths'], raw.paths);
  return {
    name,
    origin: document.origin(path),
    from: from ?? { kind: 'env', name: '' },
    environment: raw.environment,
    ...hostPortAt(report, [...path, 'host'], raw.host),
    methods: raw.methods,
    paths: raw.paths,
    allowsPath: anyPath(raw.paths),
    place: buildPlace(report, path, raw),
    ...buildMints(report, path, raw),
    ...buildBody(report, path, raw),
    ...(raw.variable === undefined ? {} : { variable: raw.variable }),
  };
}

function buildPlace(report: Report, path: Path, raw: RawCredential): CredentialPlace {
  const { header, query, basic, field } = raw;
  if ([header, query, basic, field].filter((one) => one !== undefined).length !== 1) {
    report(
      path,
      'a credential has one place',
      'name one of `header`, `query`, `basic` and `field`',
    );
  }
  if (field !== undefined) {
    if (!/^[A-Za-z0-9._~-]{1,128}$/.test(field)) {
      report([...path, 'field'], `\`${printable(field)}\` is not a plain key`);
    }
    return { kind: 'field', key: field };
  }
  if (query !== undefined) {
    if (!/^[A-Za-z0-9._~-]{1,128}$/.test(query)) {
      report([...path, 'query'], `\`${printable(query)}\` is not a plain key`);
    }
    return { kind: 'query', key: query };
  }
  if (basic !== undefined) {
    // RFC 7617: the user ends with the first colon.
    if (!/^[\x21-\x39\x3b-\x7e]{0,128}$/.test(basic)) {
      report([...path, 'basic'], `\`${printable(basic)}\` is not a user`);
    }
    return { kind: 'basic', user: basic };
  }
  const name = (header ?? 'authorization').toLowerCase();
  if (!/^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$/.test(name) || FRAMING.test(name)) {
    report(
      [...path, 'header'],
      `\`${printable(header ?? '')}\` cannot hold a credential`,
      'name a header such as `authorization` or `x-api-key`',
    );
  }
  if (raw.format.split('{}').length !== 2 || !/^[\x20-\x7e]+$/.test(raw.format)) {
    report([...path, 'format'], '`format` must hold `{}` exactly once', 'write it as `Bearer {}`');
  }
  return { kind: 'header', name, format: raw.format };
}

function buildMints(
  report: Report,
  path: Path,
  { mints }: RawCredential,
): Pick<CredentialConfig, 'mints'> {
  if (mints === undefined) return {};
  const hosts = mints.hosts.map((text, i) =>
    hostPortAt(report, [...path, 'mints', 'hosts', i], text),
  );
  return { mints: { hosts, keys: mints.keys.map((key) => key.toLowerCase()) } };
}

function buildBody(
  report: Report,
  path: Path,
  { body }: RawCredential,
): Pick<CredentialConfig, 'bodyFault'> {
  if (body === undefined) return {};
  try {
    const schema = z.fromJSONSchema(body);
    return {
      bodyFault(value) {
        const issue = schema.safeParse(value).error?.issues[0];
        return (
          issue && [issue.path.join('.'), issue.message].filter((one) => one !== '').join(': ')
        );
      },
    };
  } catch (error) {
    report([...path, 'body'], `is no schema that can be checked: ${reasonOf(error)}`);
    return {};
  }
}

function parseSource(text: string): SecretSource | undefined {
  const variable = /^env:([A-Za-z_][A-Za-z0-9_]{0,127})$/.exec(text)?.[1];
  if (variable !== undefined) return { kind: 'env', name: variable };
  const words = /^exec:(\S[^\0]{0,4096})$/.exec(text)?.[1]?.trim().split(/\s+/);
  if (words !== undefined) {
    const [program = '', ...args] = words;
    return { kind: 'exec', program, args };
  }
  const path = /^file:(.{1,4096})$/.exec(text)?.[1];
  return path === undefined || path.includes('\0') ? undefined : { kind: 'file', path };
}

function variablesAreApart(report: Report, credentials: readonly CredentialConfig[]): void {
  const seen = new Set<string>();
  for (const { name, environment, variable } of credentials) {
    if (variable === undefined) continue;
    const key = `${environment} ${variable}`;
    if (seen.has(key)) {
      report(
        ['credentials', name, 'variable'],
        `\`${variable}\` already holds another placeholder in \`${environment}\``,
      );
    }
    seen.add(key);
  }
}

function buildUpstream(
  report: Report,
  path: Path,
  text: string,
  raw: RawUpstream,
): UpstreamConfig | undefined {
  const host = hostAt(report, path, text);
  const parts = HOST_PORT.exec(raw.address);
  const address =
    parts?.[1] === undefined ? undefined : hostAt(report, [...path, 'address'], parts[1]);
  const port = Number(parts?.[2]);
  if (parts === null || (address !== undefined && !isAddress(address)) || !isPort(port)) {
    report(
      [...path, 'address'],
      `\`${printable(raw.address)}\` is not an address and a port`,
      'write it as `127.0.0.1:4001`',
    );
    return undefined;
  }
  const ca = raw.tls === undefined || raw.tls === false ? undefined : raw.tls.ca;
  const scheme = raw.scheme ?? (raw.tls === false ? 'http' : 'https');
  if (scheme === 'https' && raw.tls === false) {
    report([...path, 'tls'], '`tls` is `false`, and `scheme` says `https`');
  }
  if (scheme === 'http' && ca !== undefined) {
    report([...path, 'tls'], '`tls.ca` has no meaning with the scheme `http`');
  }
  if (ca !== undefined) checkFilePath(report, [...path, 'tls', 'ca'], ca);
  if (host === undefined || address === undefined) return undefined;
  return { host, address, port, scheme, ...(ca === undefined ? {} : { authorityFile: ca }) };
}

function checkFilePath(report: Report, path: Path, text: string): void {
  if (text === '' || text.length > 4096 || text.includes('\0')) {
    report(path, `\`${printable(text.slice(0, 80))}\` is not the path of a file`);
  }
}
