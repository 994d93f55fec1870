// The shape of belay.jsonc, version 1, as a strict zod schema: a key that is not here is refused.
// What a shape cannot say (hosts, references between names) is checked in build.ts. The JSON Schema
// for editors is generated from this.

import { z } from 'zod';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const name = z.string().regex(NAME, 'is not a name');

const caps = z.strictObject({
  calls: z.int().min(0).optional().describe('at most so many calls'),
  bytes: z
    .union([z.int().min(0), z.string()])
    .optional()
    .describe('at most so many bytes in both directions: 100000, "100MB", "1GiB"'),
});

const runCaps = caps.extend({
  denials: z
    .int()
    .min(0)
    .optional()
    .describe('refused attempts; one more stops the run; default 100000'),
  denialsPerMinute: z
    .int()
    .min(1)
    .optional()
    .describe('refused attempts within a minute; one more pauses the run for 30 s; default 100'),
});

const limits = z.strictObject({
  processes: z.int().min(16).max(1_000_000).optional().describe('at most so many at once'),
  memory: z
    .union([z.int().min(1), z.string()])
    .optional()
    .describe('at most so many bytes: "4GiB"; at least 64MiB'),
});

const grant = z.strictObject({
  agent: name.describe('a name from `agents`'),
  environment: name.describe('a name from `environments`'),
  allow: z
    .array(z.string())
    .max(256)
    .default([])
    .describe(
      'presets, hosts (ports 443 and 80), HOST:PORT, tls://HOST, tcp://HOST:PORT, or pushes beyond agent/*: git.push:HOST/REPOSITORY#BRANCH; nothing else is reachable',
    ),
  expires: z.string().optional().describe('a date and time: 2027-01-01T00:00:00Z'),
  state: z.enum(['active', 'under review']).default('active'),
  mode: z
    .enum(['live', 'shadow'])
    .default('live')
    .describe('in shadow mode reads and model calls pass and writes are refused'),
  caps: runCaps.default({}).describe('caps of each run under this grant'),
});

const credential = z.strictObject({
  from: z
    .string()
    .describe('env:NAME, file:PATH or exec:PROGRAM ARGUMENTS; the value is never written here'),
  environment: name.describe('the only environment in which it is used'),
  host: z.string().describe('the only host that receives it, on port 443 or as HOST:PORT'),
  methods: z.array(z.string()).min(1).describe('the methods that it is sent with'),
  paths: z.array(z.string()).min(1).describe('path patterns: * within a segment, ** across'),
  header: z.string().optional().describe('the header that holds it'),
  format: z.string().default('{}').describe('of the header; {} is the value: "Bearer {}"'),
  query: z.string().optional().describe('instead of a header: the key of the query that holds it'),
  basic: z.string().optional().describe('instead: the user whose password it is (Basic)'),
  field: z
    .string()
    .optional()
    .describe('instead: the member of a body, JSON or form, whose whole value is the placeholder'),
  mints: z
    .strictObject({
      hosts: z
        .array(z.string())
        .min(1)
        .max(32)
        .describe('hosts or HOST:PORT that take the tokens, as `authorization: Bearer`'),
      keys: z
        .array(z.string().min(1).max(128))
        .max(32)
        .default([])
        .describe('members of the answer that hold one beside `access_token`: "token"'),
    })
    .optional()
    .describe('calls with it are answered with tokens: they stay outside, inside are placeholders'),
  body: z
    .record(z.string(), z.unknown())
    .optional()
    .describe('a JSON Schema: with another body, JSON or form, the call is denied'),
  variable: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'is not the name of a variable')
    .optional()
    .describe('the variable that holds the placeholder inside the sandbox'),
});

const FIELD = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const fieldType = z.enum(['long', 'string', 'boolean']);

const route = z.strictObject({
  host: z.string().describe('the host of these calls, on port 443 or as HOST:PORT'),
  methods: z.array(z.string()).min(1).max(16).describe('their methods'),
  paths: z
    .array(z.string())
    .min(1)
    .max(64)
    .describe(
      'path patterns: * within a segment, ** across; `context.template` is the first that fits',
    ),
  fields: z
    .record(
      z.string().regex(FIELD, 'is not the name of a field'),
      z.union([
        fieldType,
        z.strictObject({
          type: fieldType,
          at: z
            .array(z.string().max(128))
            .min(1)
            .max(8)
            .describe('the keys that lead to it: ["order", "amount"]'),
        }),
      ]),
    )
    .default({})
    .describe('members of the body, JSON or form, that policies see as `context.fields`'),
  taint: name
    .optional()
    .describe('a run that was permitted such a call has this word in `context.taint` from then on'),
});

const upstream = z.strictObject({
  address: z.string().describe('where the host really is: ADDRESS:PORT'),
  scheme: z.enum(['http', 'https']).optional().describe('how the upstream is spoken to'),
  tls: z
    .union([z.literal(false), z.strictObject({ ca: z.string().optional() })])
    .optional()
    .describe('false for plain HTTP; ca: a PEM file with the authority that signs the upstream'),
});

export const configSchema = z.strictObject({
  $schema: z.string().optional(),
  version: z.literal(1),
  agents: z
    .record(
      name,
      z.strictObject({
        environment: name.describe('the default of its runs'),
        limits: limits.default({}).describe('what each of its runs may use of this host'),
      }),
    )
    .default({}),
  environments: z
    .record(
      name,
      z.strictObject({
        sandbox: z
          .literal('required')
          .optional()
          .describe('refuse runs with `--containment external` in this environment'),
      }),
    )
    .default({}),
  grants: z.array(grant).max(1024).default([]),
  credentials: z.record(name, credential).default({}),
  routes: z
    .record(name, route)
    .default({})
    .describe('calls to services of your own that policies name'),
  upstreams: z.record(z.string(), upstream).default({}),
  policies: z.string().optional().describe('directory of the *.cedar files; `policies` by default'),
  caps: caps.default({}).describe('caps over all runs; only in $BELAY_HOME/belay.jsonc'),
});

/** A configuration whose shape is right and whose references are not yet checked. */
export type RawConfig = z.output<typeof configSchema>;
export type RawGrant = z.output<typeof grant>;
export type RawCredential = z.output<typeof credential>;
export type RawRoute = z.output<typeof route>;
export type RawUpstream = z.output<typeof upstream>;
export type RawLimits = z.output<typeof limits>;
export type RawCaps = z.output<typeof caps>;

/** JSON Schema (draft 2020-12) of belay.jsonc, for editors. */
export function configSchemaJson(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, { io: 'input' }) as Record<string, unknown>;
}
