// The Cedar schema: every policy is validated against it, strictly, before it may decide anything.
// `docs` of each attribute is what request.ts puts into it. An agent is in the environment of its
// run; a host is in every domain above it, so `resource in Host::"example.com"` covers all of one.

import type { FieldType, RouteConfig } from '../config/config.ts';

const http = (fields: string): string => `
  // "CONNECT" for a tunnel, with the path "/".
  method: String,
  // "http" or "https"; "tls" or "tcp" for a tunnel.
  scheme: String,
  port: Long,
  // Normalised, without the query.
  path: String,
  // Decoded names; values are not here.
  queryKeys: Set<String>,
  // "none", "buffered" or "streamed".
  bodyKind: String,
  // Absent while unknown: a streamed body.
  sizeBytes?: Long,
  // Of the body, as the call says it: "application/json"; "" when it does not.
  contentType: String,
  // "http", "llm", "websocket" or "tunnel".
  kind: String,
  shadow: Bool,
  // Routes that match exactly: of belay.jsonc by their name, of presets as "npm-read/0".
  routes: Set<String>,
  // The path pattern of the first of them: "/v1/charges/*/refunds"; "" when there is none.
  template: String,
  // What the routes of belay.jsonc show of the body; absent what the body does not have.
  fields: {${fields}},
  // What the run was tainted with before this call, by the routes of belay.jsonc.
  taint: Set<String>,
  // What the run was permitted before this call, and of that to this host: 0 is the first time.
  runCalls: Long,
  hostCalls: Long,
`;

const PUSH = `
  // The path of the repository, without its first slash and a last ".git". Its letters are the client's,
  // and many servers take "Team/App" for "team/app": permit by name, and do not forbid by it alone.
  repository: String,
  // Its full name: "refs/heads/agent/x".
  ref: String,
  // Object ids; "" where there is none.
  old: String,
  new: String,
  // "create", "fast-forward", "unproven" or "delete".
  change: String,
`;

const CEDAR_TYPE: Readonly<Record<FieldType, string>> = {
  long: 'Long',
  string: 'String',
  boolean: 'Bool',
};

/** The fields of all routes; one name has one type. */
export function typesOf(routes: readonly RouteConfig[]): ReadonlyMap<string, FieldType> {
  return new Map(
    routes.flatMap(({ fields }) => [...fields].map(([name, { type }]) => [name, type])),
  );
}

/** The schema for a configuration whose routes show these fields. */
export function cedarSchema(fields: ReadonlyMap<string, FieldType>): string {
  const shown = [...fields].map(([name, type]) => `"${name}"?: ${CEDAR_TYPE[type]}`).join(', ');
  return schemaWith(http(shown));
}

const schemaWith = (context: string): string => `
entity Environment;
entity Agent in [Environment];
entity Host in [Host] { name: String };

type Http = {${context}};
type Push = {${context}${PUSH}};

action "http";
action "http.read", "http.write", "http.irreversible" in ["http"] appliesTo {
  principal: [Agent],
  resource: [Host],
  context: Http,
};

// Connections that nobody looks into, once a grant has named their host and port: TLS of the
// client's own, and raw TCP.
action "tunnel";
action "tunnel.tls", "tunnel.tcp" in ["tunnel"] appliesTo {
  principal: [Agent],
  resource: [Host],
  context: Http,
};

// What a push over HTTP does to one ref. It is an http.write or http.irreversible too: both have to be
// permitted, and so has each of its refs.
action "git";
action "git.push", "git.force-push", "git.delete-ref" in ["git"] appliesTo {
  principal: [Agent],
  resource: [Host],
  context: Push,
};
`;
