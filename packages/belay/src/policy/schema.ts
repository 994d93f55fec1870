// The Cedar schema: every policy is validated against it, strictly, before it may decide anything.
// `docs` of each attribute is what request.ts puts into it. An agent is in the environment of its
// run; a host is in every domain above it, so `resource in Host::"example.com"` covers all of one.

const HTTP = `
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
  // Preset routes that match exactly: "npm-read/0".
  routes: Set<String>,
  // What the run was permitted before this call, and of that to this host: 0 is the first time.
  runCalls: Long,
  hostCalls: Long,
`;

const PUSH = `
  // The path of the repository, without its first slash and a last ".git".
  repository: String,
  // Its full name: "refs/heads/agent/x".
  ref: String,
  // Object ids; "" where there is none.
  old: String,
  new: String,
  // "create", "fast-forward", "unproven" or "delete".
  change: String,
`;

export const CEDAR_SCHEMA = `
entity Environment;
entity Agent in [Environment];
entity Host in [Host] { name: String };

type Http = {${HTTP}};
type Push = {${HTTP}${PUSH}};

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
