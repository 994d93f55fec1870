// What a grant allows, as Cedar text: one source for each `allow` entry, named after where it was
// written. A host entry permits every method and path of exactly that host, on its ports; a tunnel
// entry permits connections to exactly that host and port that are not looked into. A preset
// entry permits its routes: host, method and effect are in the text; the path patterns are matched
// by us, exactly, and the text asks `context.routes`, because `like` cannot say "within a segment".

import type { AllowEntry } from '../config/allow.ts';
import { type PresetRoute, presetNamed } from '../config/presets.ts';
import { BelayError } from '../core/errors.ts';
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
      return [
        permit(
          grant,
          entry.text,
          'action in Action::"http"',
          `resource == ${host(entry.host)}`,
          ports,
        ),
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
      return preset.routes.map((route, index) =>
        routePolicy(grant, route, routeId(preset.name, index)),
      );
    }
  }
}

/** The action is bound too: a call that was classed worse than its route is not permitted by it. */
function routePolicy(grant: GrantScope, route: PresetRoute, id: string): string {
  const { effect, methods } = route;
  const resource = route.host.startsWith('*.')
    ? `resource in ${host(route.host.slice(2))}`
    : `resource == ${host(route.host)}`;
  const when = [
    'context.scheme == "https"',
    'context.port == 443',
    `[${methods.map(cedarString).join(', ')}].contains(context.method)`,
    `context.routes.contains(${cedarString(id)})`,
  ];
  return permit(grant, id, `action == Action::"http.${effect}"`, resource, when.join(' && '));
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
  const escaped = text.replace(
    /[^A-Za-z0-9 _.:/@,-]/gu,
    (c) => `\\u{${(c.codePointAt(0) as number).toString(16)}}`,
  );
  return `"${escaped}"`;
}
