// The Cedar schema: every policy is validated against it, strictly, before it may decide anything.
// `docs` of each attribute is what request.ts puts into it. An agent is in the environment of its
// run; a host is in every domain above it, so `resource in Host::"example.com"` covers all of one.

export const CEDAR_SCHEMA = `
entity Environment;
entity Agent in [Environment];
entity Host in [Host] { name: String };

type Http = {
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
  // "http", "llm", "websocket" or "tunnel".
  kind: String,
  shadow: Bool,
  // Preset routes that match exactly: "npm-read/0".
  routes: Set<String>,
};

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
`;
