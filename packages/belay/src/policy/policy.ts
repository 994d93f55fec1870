// The policy of one run: its grant and the policies of its configuration, decided by Cedar, default
// deny, forbid over permit. A decision is made over the slice of policies whose scope can match,
// and kept for as long as this policy lives: a changed configuration is a new policy, so the epoch
// of the decisions is the object itself. Whatever goes wrong in here is a denial.

import type { RouteConfig } from '../config/config.ts';
import type { Preset } from '../config/presets.ts';
import { configError } from '../config/problem.ts';
import { reasonOf } from '../core/errors.ts';
import type { Host } from '../core/target.ts';
import type { Denial, Verdict } from '../core/verdict.ts';
import { decisionKey, part, remembered } from './cache.ts';
import { type CallFacts, type Classification, classify } from './classify.ts';
import { declaredRoutes, readFields } from './declared.ts';
import type { CedarRequest, Engine, PreparedSet } from './engine.ts';
import { type Reads, unionOf } from './reads.ts';
import {
  type Before,
  cedarRequest,
  groupOf,
  hostChain,
  type PolicyRequest,
  pushRequest,
  requestOf,
  type Who,
} from './request.ts';
import { routeTable } from './routes.ts';
import { type KnownNames, type PolicySource, type Rule, readRules } from './rules.ts';
import { cedarSchema, typesOf } from './schema.ts';
import { ancestry, canMatch, scopeHosts } from './scope.ts';
import {
  type Decision,
  uncountable,
  unreadableBody,
  unreadablePush,
  verdictOf,
} from './verdicts.ts';

export interface PolicyOptions {
  readonly engine: Engine;
  readonly policies: readonly PolicySource[];
  /** All presets: their routes become `context.routes`. */
  readonly presets: readonly Preset[];
  /** Names of the presets that the run was granted: their effects override the method's. */
  readonly granted: Iterable<string>;
  /** Of the configuration. */
  readonly routes?: readonly RouteConfig[];
  readonly names?: KnownNames;
}

export interface Policy extends Disposable {
  readonly rules: readonly Rule[];
  classify(call: CallFacts): Classification;
  decide(call: CallFacts, classified: Classification, who: Who, before?: Before): Verdict;
  /** What a call that is permitted taints its run with. */
  taints(call: CallFacts): readonly string[];
  /** The decision behind a verdict, for those who explain it. */
  judge(request: PolicyRequest): Decision;
}

/** Policy as the monitor wants it, for one run. */
export interface RunJudge {
  classify(call: CallFacts): Classification;
  decide(call: CallFacts, classified: Classification): Verdict;
  /** Counts a call that all permit, and takes its taint: what is decided from now on knows of it. */
  permitted(call: CallFacts): void;
}

const MOST_DECISIONS = 8192;
const MOST_QUERY_KEYS = 256;
/** That are counted for one run; no policy that reads the count permits more. */
const MOST_HOSTS = 1024;

/** Throws ERR_CONFIG with file, line and hint when a policy is broken. */
export function createPolicy(options: PolicyOptions): Policy {
  const { engine, policies, names, routes = [] } = options;
  const { rules, problems } = readRules(engine, policies, cedarSchema(typesOf(routes)), names);
  if (problems.length > 0) throw configError(problems);
  const presets = routeTable(options.presets);
  const declared = declaredRoutes(routes);
  const granted = new Set(options.granted);
  const byId = new Map(rules.map((rule) => [rule.id, rule]));
  const slices = createSlices(engine, rules);
  let released = false;

  const evaluate = (request: PolicyRequest): Decision => {
    const slice = slices.of(request);
    return slice.set === undefined ? NOTHING : evaluateSet(slice.set, cedarRequest(request));
  };
  const kept = remembered(
    MOST_DECISIONS,
    (request: PolicyRequest) => decisionKey(request, slices.of(request).reads),
    evaluate,
  );
  const judge = (request: PolicyRequest): Decision =>
    released ? failed('the policy of this run was released') : kept(request);

  return {
    rules,
    judge,
    classify: (call) => classify(call, presets, granted),
    taints: (call) => declared(call).flatMap(({ route: { taint } }) => taint ?? []),
    decide(call, classified, who, before) {
      const taken = declared(call);
      const read = readFields(call, taken);
      const fields = read.kind === 'fields' ? read.fields : {};
      const routesOf = { presets: presets(call), declared: taken, fields };
      const request = requestOf(call, classified, who, routesOf, before);
      if (read.kind === 'unreadable') return unreadableBody(request, read.reason);
      const { queryKeys } = request.context;
      const decision =
        queryKeys.length > MOST_QUERY_KEYS
          ? failed(`more than ${MOST_QUERY_KEYS} query keys`)
          : judge(request);
      const verdict = verdictOf(decision, request, byId);
      const { push } = call;
      if (push === undefined || verdict.kind === 'deny') return verdict;
      if (push.kind === 'unreadable') return unreadablePush(request, push.reason);
      // INVARIANT: a push is what it does to each of its refs, and all of that is permitted or none.
      return allOf(verdict, push.refs, (change) => {
        const ofRef = pushRequest(request, push.repository, change);
        return verdictOf(judge(ofRef), ofRef, byId);
      });
    },
    [Symbol.dispose]() {
      released = true;
      slices.release();
    },
  };
}

/** Binds a policy to one run, whose permitted calls and taint it keeps; fits the monitor's judge. */
export function judgeFor(policy: Policy, who: Who): RunJudge {
  const counted = policy.rules.some(({ reads }) => reads === 'all' || reads.has('hostCalls'));
  let runCalls = 0;
  const toHost = new Map<Host, number>();
  const taint = new Set<string>();
  return {
    classify: policy.classify,
    decide(call, classified) {
      const { host } = call.target;
      const hostCalls = toHost.get(host) ?? 0;
      const before = { runCalls, hostCalls, taint: [...taint] };
      const verdict = policy.decide(call, classified, who, before);
      // A count that is not kept would read as none, for ever.
      const uncounted = counted && hostCalls === 0 && toHost.size >= MOST_HOSTS;
      return uncounted && verdict.kind !== 'deny' ? uncountable(call.target, MOST_HOSTS) : verdict;
    },
    permitted(call) {
      const { host } = call.target;
      runCalls += 1;
      // Before the answer: what comes back may arrive at any time from now on.
      for (const label of policy.taints(call)) taint.add(label);
      if (counted) toHost.set(host, (toHost.get(host) ?? 0) + 1);
    },
  };
}

/** The first denial, otherwise the first hold, otherwise a permit by all. */
function allOf<T>(
  first: Exclude<Verdict, Denial>,
  rest: readonly T[],
  verdictOn: (one: T) => Verdict,
): Verdict {
  let all = first;
  for (const one of rest) {
    const next = verdictOn(one);
    if (next.kind === 'deny') return next;
    const policies = [...new Set([...all.policies, ...next.policies])];
    all = { ...(all.kind === 'hold' ? all : next), policies };
  }
  return all;
}

const NOTHING: Decision = { allowed: false, policies: [], errors: [] };

function failed(error: string): Decision {
  return { allowed: false, policies: [], errors: [{ error }] };
}

function evaluateSet(set: PreparedSet, request: CedarRequest): Decision {
  try {
    const answer = set.evaluate(request);
    if (answer.type === 'failure') return failed(answer.errors[0]?.message ?? 'no reason given');
    const { decision, diagnostics } = answer.response;
    return {
      allowed: decision === 'allow',
      policies: diagnostics.reason.toSorted(),
      errors: diagnostics.errors.map(({ policyId, error }) => ({
        policy: policyId,
        error: error.message,
      })),
    };
  } catch (error) {
    // The module trapped: what it would have said is unknown, and unknown is denied (I7).
    return failed(reasonOf(error));
  }
}

interface Slice {
  readonly reads: Reads;
  /** Absent: no policy can match, so nothing is permitted. */
  readonly set: PreparedSet | undefined;
}

interface Slices {
  of(request: PolicyRequest): Slice;
  release(): void;
}

/** Slices, made when first asked for. Their number is bounded by what the policies name. */
function createSlices(engine: Engine, rules: readonly Rule[]): Slices {
  const named = new Set(rules.flatMap(({ tree }) => scopeHosts(tree)));
  const chains = new Map<string, readonly string[]>();
  const byScope = new Map<string, Slice>();
  const byRules = new Map<string, Slice>();

  const make = (request: PolicyRequest, hosts: readonly string[]): Slice => {
    const scopes = {
      principal: ancestry('Agent', [
        ['Agent', request.agent],
        ['Environment', request.environment],
      ]),
      action: ancestry('Action', [
        ['Action', request.action],
        ['Action', groupOf(request.action)],
      ]),
      resource: ancestry(
        'Host',
        hosts.map((host) => ['Host', host] as const),
      ),
    };
    const matching = rules.filter(({ tree }) => canMatch(tree, scopes));
    const key = JSON.stringify(matching.map(({ id }) => id));
    let slice = byRules.get(key);
    if (slice === undefined) {
      const texts = Object.fromEntries(matching.map(({ id, text }) => [id, text]));
      slice = {
        reads: unionOf(matching.map(({ reads }) => reads)),
        set: matching.length === 0 ? undefined : engine.prepare(texts),
      };
      byRules.set(key, slice);
    }
    return slice;
  };

  /** The host and the domains above it that a policy names. */
  const namedHosts = (host: Host): readonly string[] => {
    let hosts = chains.get(host);
    if (hosts === undefined) {
      hosts = hostChain(host).filter((name) => named.has(name));
      if (chains.size >= MOST_HOSTS) chains.clear();
      chains.set(host, hosts);
    }
    return hosts;
  };

  return {
    of(request) {
      const { agent, environment, action } = request;
      const hosts = namedHosts(request.host);
      let key = part(agent) + part(environment) + part(action);
      for (const host of hosts) key += part(host);
      let slice = byScope.get(key);
      if (slice === undefined) {
        slice = make(request, hosts);
        byScope.set(key, slice);
      }
      return slice;
    },
    release() {
      for (const { set } of byRules.values()) set?.release();
      byRules.clear();
      byScope.clear();
      chains.clear();
    },
  };
}
