// Routes that a configuration declares: a policy speaks of them by name and template, sees the members of
// a body that they show, and what they tainted a run with.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { verifies } from '../verifies.ts';
import { type Attempt, denials, eventually, openPlace, type Place } from './place.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

const HOSTS = ['pay.example', 'mail.example', 'out.example'];
const ALLOW = HOSTS.flatMap((host) => ['--allow', host]);

const ROUTES = {
  refund: {
    ...{ host: 'pay.example', methods: ['POST'], paths: ['/v1/charges/*/refunds'] },
    fields: { amount: { type: 'long', at: ['order', 'amount'] }, reason: 'string', now: 'boolean' },
  },
  inbox: { host: 'mail.example', methods: ['GET'], paths: ['/inbox/**'], taint: 'strangers' },
};

const POLICIES = `
@id("small-refunds")
forbid (principal, action, resource) when { context.routes.contains("refund") }
unless { context.fields has amount && context.fields.amount <= 5000 };
@id("no-reason-alone")
forbid (principal, action, resource)
when { context.fields has reason && context.fields.reason == "" };
@id("not-now")
forbid (principal, action, resource) when { context.fields has now && context.fields.now };
@id("charges-by-template")
forbid (principal, action == Action::"http.read", resource == Host::"pay.example")
when { context.template != "" };
@id("nothing-leaves")
forbid (principal, action in [Action::"http.write", Action::"http.irreversible"], resource)
when { context.taint.contains("strangers") };
@id("private")
forbid (principal, action, resource) when { context.path like "/inbox/private/*" };
`;

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream(HOSTS);
  place = await openPlace();
  place.put('ca.pem', upstream.caPem);
  await place.session.exec(['mkdir', '-m', '755', join(place.workdir, 'policies')]);
  configure(ROUTES);
}, 60_000);

afterEach(() => {
  upstream.arrivals.length = 0;
});

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

function configure(routes: object): void {
  const declared = { address: upstream.address, tls: { ca: './ca.pem' } };
  const config = {
    version: 1,
    agents: { tester: { environment: 'local' } },
    environments: { local: {} },
    grants: [{ agent: 'tester', environment: 'local', caps: { denialsPerMinute: 100_000 } }],
    routes,
    upstreams: Object.fromEntries(HOSTS.map((host) => [host, declared])),
  };
  place.put('belay.jsonc', JSON.stringify(config));
  if (Object.keys(routes).length > 0) place.put('policies/routes.cedar', POLICIES);
  else rmSync(join(place.workdir, 'policies/routes.cedar'));
}

const REFUND = 'https://pay.example/v1/charges/ch_1/refunds';
const json = { 'content-type': 'application/json' };

function refund(body: string, headers: Record<string, string> = json, url = REFUND): Attempt {
  return ['request', url, { method: 'POST', body, headers }];
}

const order = (amount: string, more = ''): string => `{"order":{"amount":${amount}}${more}}`;

/** Another reader could take each for a refund of more than a policy saw. */
const HIDDEN: Readonly<Record<string, Attempt>> = {
  'a text': refund(order('"9000"')),
  'no integer': refund(order('5000.5')),
  'too large for one': refund(order('9007199254740993')),
  'a key that comes twice': refund('{"order":{"amount":9000,"amount":1}}'),
  'a key in two cases': refund('{"order":{"amount":1,"Amount":9000}}'),
  'a key in another case': refund(order('1', ',"Now":true')),
  'an object that comes twice': refund('{"order":{"amount":9000},"order":{"amount":1}}'),
  'in an array': refund('{"order":[{"amount":9000}]}'),
  'not an object': refund('{"order":9000}'),
  'another type': refund(order('1'), { 'content-type': 'text/plain' }),
  'no type': refund(order('1'), {}),
  'another charset': refund(order('1'), { 'content-type': 'application/json; charset=utf-16' }),
  'a coding': refund(order('1'), { ...json, 'content-encoding': 'gzip' }),
  'no JSON': refund('{"order":{"amount":1}'),
  'a truth that is a text': refund(order('1', ',"now":"false"')),
  'half a character': refund(order('1', ',"reason":"\\ud800"')),
  'over 1 MiB': refund(order('1', `,"note":"${'x'.repeat(1_100_000)}"`)),
};

verifies(
  'policy.fields',
  'an amount is judged as the service reads it, and one that could be read otherwise is denied',
  async () => {
    const names = Object.keys(HIDDEN);
    const judged = [
      ...[refund(order('5000')), refund(order('5001')), refund(order('-1', ',"now":false'))],
      ...[refund('{}'), refund(order('null')), refund(order('1', ',"reason":""'))],
      ...[refund(order('1', ',"now":true')), refund(order('1', ',"reason":"broken"'))],
    ];
    const { results, run } = await place.attempt(ALLOW, [...judged, ...Object.values(HIDDEN)]);
    const statuses = results.map(({ value }) => value.status);
    expect(statuses.slice(0, judged.length)).toEqual([200, 403, 200, 403, 403, 403, 403, 200]);
    expect(Object.fromEntries(names.map((name, i) => [name, statuses[judged.length + i]]))).toEqual(
      Object.fromEntries(names.map((name) => [name, 403])),
    );
    expect(upstream.arrivals).toHaveLength(3);
    const found = denials(await place.entries(run.summary?.run));
    const unread = found.filter(({ code }) => code === 'body.unreadable');
    expect(unread).toHaveLength(names.length);
    expect(unread[0]?.reason).toBe(
      'the body is none for the route `refund`: `amount` is not an integer',
    );
    expect(found.flatMap(({ policies }) => policies)).toEqual([
      ...['small-refunds', 'small-refunds', 'small-refunds', 'no-reason-alone', 'not-now'],
    ]);
  },
  { timeoutMs: 60_000 },
);

verifies(
  'policy.fields',
  'the control: where no route is declared, each of these bodies goes out',
  async () => {
    configure({});
    try {
      const { results } = await place.attempt(ALLOW, Object.values(HIDDEN));
      expect(results.map(({ value }) => value.status)).toEqual(results.map(() => 200));
      expect(upstream.arrivals).toHaveLength(results.length);
    } finally {
      configure(ROUTES);
    }
  },
  { timeoutMs: 60_000 },
);

verifies(
  'policy.route',
  'a route is its host, its methods and one segment for each star',
  async () => {
    const at = (path: string, host = 'pay.example') => refund('{}', json, `https://${host}${path}`);
    const { results, run } = await place.attempt(ALLOW, [
      ...[at('/v1/charges/ch_1/refunds'), at('/v1/charges/ch%5F1/refunds')],
      ...[at('/v1/charges/a/b/refunds'), at('/v1/charges/ch_1/refunds/x')],
      at('/v1/charges/ch_1/refunds', 'out.example'),
      ['request', REFUND],
      ['request', REFUND, { method: 'PUT', body: '{}', headers: json }],
    ]);
    const statuses = results.map(({ value }) => value.status);
    expect(statuses).toEqual([403, 403, 200, 200, 200, 200, 200]);
    const found = denials(await place.entries(run.summary?.run));
    expect(found.flatMap(({ policies }) => policies)).toEqual(['small-refunds', 'small-refunds']);
    // A template is asked for like a name.
    configure({ ...ROUTES, refund: { ...ROUTES.refund, methods: ['GET'] } });
    try {
      const read = await place.attempt(ALLOW, [
        ['request', REFUND],
        ['request', 'https://pay.example/v1/charges/ch_1'],
      ]);
      expect(read.results.map(({ value }) => value.status)).toEqual([403, 200]);
    } finally {
      configure(ROUTES);
    }
  },
  { timeoutMs: 60_000 },
);

const READ: Attempt = ['request', 'https://mail.example/inbox/1'];
const SEND: Attempt = ['request', 'https://out.example/x', { method: 'POST', body: 'x' }];

verifies(
  'policy.taint',
  'what strangers wrote is read, and from then on nothing leaves',
  async () => {
    const { results, run } = await place.attempt(ALLOW, [
      ...[SEND, ['request', 'https://mail.example/inbox/private/1'] as const, SEND],
      ...[READ, SEND, ['request', 'https://out.example/x'] as const, SEND],
    ]);
    const statuses = results.map(({ value }) => value.status);
    // What was refused taints nothing.
    expect(statuses).toEqual([200, 403, 200, 200, 403, 200, 403]);
    const found = denials(await place.entries(run.summary?.run));
    const forbids = ['private', 'nothing-leaves', 'nothing-leaves'];
    expect(found.flatMap(({ policies }) => policies)).toEqual(forbids);
    // Another run begins clean.
    const again = await place.attempt(ALLOW, [SEND]);
    expect(again.results[0]?.value.status).toBe(200);
  },
  { timeoutMs: 60_000 },
);

const CURL = 'curl -sS -o /dev/null -w "%{http_code} "';
const READ_IT = `${CURL} https://mail.example/inbox/1`;
const SEND_IT = `${CURL} -d x=1 https://out.example/x`;

verifies(
  'policy.taint',
  'a sub-run of a tainted run is tainted, and what it reads taints the run above',
  async () => {
    const waiting = (steps: string) =>
      place.start(ALLOW, ['sh', '-c', `${steps}; echo up; read -r line; ${SEND_IT}`]);
    const below = async (parent: string, steps: string) =>
      (await place.run(['--parent', parent, ...ALLOW], ['sh', '-c', steps])).stdout.trim();
    const up = (one: ReturnType<typeof waiting>) =>
      eventually('the first steps', () => (one.stdout().includes('up') ? true : undefined));

    const tainted = waiting(READ_IT);
    await up(tainted);
    expect(await below(await place.openRun(), SEND_IT)).toBe('403');
    tainted.child.stdin?.end('\n');
    await tainted.ended;

    const clean = waiting(SEND_IT);
    await up(clean);
    expect(await below(await place.openRun(), `${SEND_IT}; ${READ_IT}`)).toBe('200 200');
    clean.child.stdin?.end('\n');
    await clean.ended;
    expect(clean.stdout().replace(/\s+/g, ' ').trim()).toBe('200 up 403');
  },
  { timeoutMs: 90_000 },
);

verifies(
  'policy.explain',
  'a call is explained with a body and a taint, and cases can have both',
  async () => {
    const explained = async (...args: readonly string[]) => {
      const { stdout, stderr, status } = await place.session.belay([
        ...['policy', 'explain', ...args, ...ALLOW, '--json', '--workdir', place.workdir],
      ]);
      return status === 0 || status === 3
        ? { status, ...(JSON.parse(stdout) as { verdict: { code?: string } }) }
        : { status, said: stderr };
    };
    const ask = ['POST', REFUND, '--body'];
    expect(await explained(...ask, order('5000'))).toMatchObject({ verdict: { kind: 'permit' } });
    expect(await explained(...ask, order('5001'))).toMatchObject({
      policies: [{ id: 'small-refunds', origin: 'policies/routes.cedar:2' }],
    });
    expect(await explained(...ask, order('"x"'))).toMatchObject({
      verdict: { code: 'body.unreadable' },
    });
    expect(await explained(...ask, order('1'), '--taint', 'strangers')).toMatchObject({
      policies: [{ id: 'nothing-leaves' }],
    });
    const wrong = await explained(...ask, order('1'), '--taint', 'stranger');
    expect(wrong).toMatchObject({ said: expect.stringContaining('did you mean `strangers`?') });
    expect(await explained(...ask, '{')).toMatchObject({
      status: 2,
      said: expect.stringContaining('--body is not JSON'),
    });
    const post = { method: 'POST', url: REFUND };
    place.put(
      'policies/tests.jsonc',
      JSON.stringify([
        { name: 'nothing is granted', ...post, body: { order: { amount: 1 } }, expect: 'deny' },
        { name: 'large', ...post, body: { order: { amount: 9_000 } }, expect: 'permit' },
      ]),
    );
    const cases = await place.session.belay(['policy', 'test', '--workdir', place.workdir]);
    expect(cases.stdout).toContain('FAIL large');
    rmSync(join(place.workdir, 'policies/tests.jsonc'));
  },
  { timeoutMs: 60_000 },
);
