// What a grant allows, as Cedar text: one source for each `allow` entry, named after where it was
// written. A host entry permits every method and path of exactly that host, on its ports, and pushes to
// the branches of agents; a tunnel entry permits connections to exactly that host and port that are
// not looked into; a push entry permits what it says of one repository. A preset entry permits its
// routes: host, method and effect are in the text; the path patterns are matched by us, exactly, and
// the text asks `context.routes`, because `like` cannot say "within a segment".

import type { AllowEntry } from '../config/allow.ts';
import type { PushEntry } from '../config/allow-push.ts';
import { type PresetRoute, presetNamed } from '../config/presets.ts';
import { BelayError } from '../core/errors.ts';
import { AGENT_BRANCHES } from '../core/push.ts';
import { routeId } from './routes.ts';
import type { PolicySource } from './rules.ts';

export interface GrantScope {
  readonly agent: string;
  readonly environment: string;
  readonly allow: readonly AllowEntry[];
}

/** Policies of a grant. An entry that occurs twice counts once. Throws ERR_NOT_FOUND for a preset. */
export function grantPolicies(grant: GrantScope): readonly PolicySource[] {
  const once = new Map(grant.allow.map((entry) => [entry.text, entry]));
  return [...once.values()].map((entry) => ({
    file: entry.origin,
    text: entryPolicies(grant, entry).join('\n'),
    generated: true,
  }));
}

function entryPolicies(grant: GrantScope, entry: AllowEntry): readonly string[] {
  switch (entry.kind) {
    case 'host': {
      const ports = `[${entry.ports.join(', ')}].contains(context.port)`;
      const resource = `resource == ${host(entry.host)}`;
      const branches = `${ports} && ${refLike(`${AGENT_BRANCHES}*`)}`;
      return [
        permit(grant, entry.text, 'action in Action::"http"', resource, ports),
        permit(grant, `${entry.text}#agent`, PUSH, resource, branches),
      ];
    }
    case 'tunnel': {
      const action = `action == Action::"tunnel.${entry.scheme}"`;
      const port = `context.port == ${entry.port}`;
      return [permit(grant, entry.text, action, `resource == ${host(entry.host)}`, port)];
    }
    case 'preset': {
      const preset = presetNamed(entry.text);
      if (preset === undefined) {
        throw new BelayError('ERR_NOT_FOUND', `unknown preset \`${entry.text}\``);
      }
      return preset.routes.flatMap((route, index) =>
        routePolicies(grant, route, routeId(preset.name, index)),
      );
    }
    case 'push':
      return pushPolicies(grant, entry);
  }
}

const PUSH = 'action == Action::"git.push"';

/** What the entry says, and the requests that it takes: the refs are asked for first. */
function pushPolicies(grant: GrantScope, entry: PushEntry): readonly string[] {
  const { action, port, repository, refs, text } = entry;
  const resource = `resource == ${host(entry.host)}`;
  const at = (service: string): string => {
    const paths = ['', '.git'].map((suffix) => cedarString(`/${repository}${suffix}/${service}`));
    return `context.port == ${port} && [${paths.join(', ')}].contains(context.path)`;
  };
  const writes = '[Action::"http.write", Action::"http.irreversible"]';
  // Who may force a branch may move it forward too.
  const actions = action === 'git.force-push' ? ['git.push', action] : [action];
  const ofRef = `[${actions.map((name) => `Action::"${name}"`).join(', ')}]`;
  const which = `context.port == ${port} && context.repository == ${cedarString(repository)}`;
  return [
    permit(grant, `${text}/0`, 'action == Action::"http.read"', resource, at('info/refs')),
    permit(grant, `${text}/1`, `action in ${writes}`, resource, at('git-receive-pack')),
    permit(grant, text, `action in ${ofRef}`, resource, `${which} && ${refLike(refs)}`),
  ];
}

/** In a pattern `*` is the wildcard, and nothing else is one. */
function refLike(refs: string): string {
  return `context.ref like "${refs.split('*').map(cedarText).join('*')}"`;
}

/** The action is bound too: a call that was classed worse than its route is not permitted by it. */
function routePolicies(grant: GrantScope, route: PresetRoute, id: string): readonly string[] {
  const { effect, methods, refs = [] } = route;
  const resource = route.host.startsWith('*.')
    ? `resource in ${host(route.host.slice(2))}`
    : `resource == ${host(route.host)}`;
  const when = [
    'context.scheme == "https"',
    'context.port == 443',
    `[${methods.map(cedarString).join(', ')}].contains(context.method)`,
    `context.routes.contains(${cedarString(id)})`,
  ];
  const all = when.join(' && ');
  return [
    permit(grant, id, `action == Action::"http.${effect}"`, resource, all),
    ...refs.map((pattern) =>
      permit(grant, `${id}#${pattern}`, PUSH, resource, `${all} && ${refLike(pattern)}`),
    ),
  ];
}

function permit(
  { agent, environment }: GrantScope,
  name: string,
  action: string,
  resource: string,
  when: string,
): string {
  return [
    `@id(${cedarString(`grant:${agent}@${environment}/${name}`)})`,
    'permit (',
    `  principal == Agent::${cedarString(agent)},`,
    `  ${action},`,
    `  ${resource}`,
    `) when { principal in Environment::${cedarString(environment)} && ${when} };`,
  ].join('\n');
}

function host(name: string): string {
  return `Host::${cedarString(name)}`;
}

/** A Cedar string literal. Everything but plain ASCII is escaped, so no text can end it. */
export function cedarString(text: string): string {
  return `"${cedarText(text)}"`;
}

function cedarText(text: string): string {
  return text.replace(
    /[^A-Za-z0-9 _.:/@,-]/gu,
    (c) => `\\u{${(c.codePointAt(0) as number).toString(16)}}`,
  );
}
