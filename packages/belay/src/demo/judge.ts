// Turns what was recorded into the demo's table. What crossed the gateway is read from the ledger,
// whatever the agent says; what never crosses it is read from the kernel's answer that the agent saw
// and checked on the disk. A row is good only if the act ended as it should and its control shows
// that without Belay it would have worked.

import type { DenialEntry, Entry, Intent, NetDenial, Outcome } from '../core/entry.ts';
import { unreachable } from '../core/errors.ts';
import type { ActLine } from './inside/report-line.ts';
import { type Route, SCENES, type Scene } from './scenes.ts';

export interface KillTiming {
  /** Wall clock: `belay kill` was typed. */
  readonly typedAtMs: number;
  readonly processGoneMs: number | undefined;
  readonly connectionCutMs: number | undefined;
  /** The status of `belay run`. */
  readonly status: number;
}

export interface Observed {
  /** Entries of the run. */
  readonly entries: readonly Entry[];
  readonly inside: ReadonlyMap<string, ActLine>;
  readonly controls: ReadonlyMap<string, ActLine>;
  /** Everything that the agent printed. */
  readonly printed: string;
  readonly secrets: readonly string[];
  readonly arrivals: readonly string[];
  /** Files of the workspace afterwards: whether they are as they were, changed, or missing. */
  readonly files: ReadonlyMap<string, 'as it was' | 'changed' | 'missing'>;
  readonly kill: KillTiming;
}

export interface Row {
  readonly scene: Scene;
  readonly ok: boolean;
  readonly result: 'done' | 'stopped' | 'NOT DONE' | 'NOT STOPPED';
  readonly by: string;
  readonly tookMs: number | undefined;
  readonly source: string;
  readonly control: string;
  /** For the report: the entry or the kernel's words. */
  readonly evidence: string;
  /** What is wrong, for a row that is not ok. */
  readonly fault?: string;
}

/** What one kind of evidence says about a scene, before its control is looked at. */
interface Finding extends Pick<Row, 'by' | 'tookMs' | 'source' | 'evidence'> {
  readonly fault?: string;
}

const NOTHING = { by: '-', tookMs: undefined, source: '-', evidence: '' } as const;

export function judge(observed: Observed): readonly Row[] {
  return SCENES.map((scene) => {
    const found = findingOf(scene, observed);
    const control = controlOf(scene, observed);
    const fault = found.fault ?? control.fault;
    const good = found.fault === undefined;
    const honest = scene.kind === 'honest';
    return {
      scene,
      ok: fault === undefined,
      result: honest ? (good ? 'done' : 'NOT DONE') : good ? 'stopped' : 'NOT STOPPED',
      by: found.by,
      tookMs: found.tookMs,
      source: found.source,
      control: control.text,
      evidence: found.evidence,
      ...(fault === undefined ? {} : { fault }),
    };
  });
}

function findingOf(scene: Scene, observed: Observed): Finding {
  const { evidence } = scene;
  const line = observed.inside.get(scene.act);
  switch (evidence.kind) {
    case 'ledger':
      return scene.kind === 'honest'
        ? permitted(evidence.route, evidence.answer, line, observed)
        : denied(evidence.route, line, observed);
    case 'errno':
      return refusedByKernel(evidence.file, line, observed);
    case 'no-secret':
      return foundNothing(line, observed);
    case 'file':
      return written(evidence.file, line, observed);
    case 'killed':
      return killed(evidence.route, line, observed);
    default:
      return unreachable(evidence);
  }
}

function permitted(
  route: Route,
  answer: string | undefined,
  line: ActLine | undefined,
  { entries }: Observed,
): Finding {
  const intent = entries.find((entry) => entry.type === 'intent' && goesTo(entry, route));
  if (intent?.type !== 'intent') return { ...NOTHING, fault: 'no intent in the ledger' };
  const outcome = outcomeOf(entries, intent);
  const status = outcome?.status ?? 0;
  const credential = intent.credentials.join(', ');
  const fault = faultOf([
    [status < 200 || status >= 300, `the answer was ${status}`],
    [answer !== undefined && line?.detail !== answer, `the answer was \`${line?.detail ?? ''}\``],
  ]);
  return {
    by: `${status}${credential === '' ? '' : `, key \`${credential}\` injected`}`,
    tookMs: outcome?.durationMs,
    source: `ledger ${outcome?.index ?? intent.index}`,
    evidence: `permitted by ${intent.policies.join(', ')}`,
    ...(fault === undefined ? {} : { fault }),
  };
}

function denied(route: Route, line: ActLine | undefined, { entries, arrivals }: Observed): Finding {
  if (line === undefined) return { ...NOTHING, fault: 'the agent did not try it' };
  const passed = entries.find((entry) => entry.type === 'intent' && goesTo(entry, route));
  const refusal = entries.find(
    (entry): entry is Entry & (DenialEntry | NetDenial) =>
      (entry.type === 'denial' && goesTo(entry, route)) ||
      (entry.type === 'net.denial' && entry.host === route.host && entry.port === route.port),
  );
  if (passed !== undefined) return { ...NOTHING, fault: `entry ${passed.index} let it pass` };
  if (refusal === undefined) return { ...NOTHING, fault: 'no denial in the ledger' };
  const fault = faultOf([
    [arrivals.some((arrival) => arrival.endsWith(route.path)), 'it arrived'],
    [line.result === 'done', 'the agent got through'],
  ]);
  const told = refusal.type === 'denial' ? `, told ${refusal.told.status}` : '';
  return {
    by: `${refusal.type === 'denial' ? refusal.code : 'net.denial'}${told}`,
    tookMs: Math.max(0, Math.round(refusal.ts - line.startedAtMs)),
    source: `ledger ${refusal.index}`,
    evidence: refusal.reason,
    ...(fault === undefined ? {} : { fault }),
  };
}

function refusedByKernel(file: string, line: ActLine | undefined, { files }: Observed): Finding {
  if (line === undefined) return { ...NOTHING, fault: 'the agent did not try it' };
  const state = files.get(file) ?? 'missing';
  const fault = faultOf([
    [line.result === 'done', 'the agent wrote it'],
    [state !== 'as it was', `\`${file}\` is ${state}`],
    [line.errno === undefined, 'the kernel refused nothing'],
  ]);
  return {
    by: `sandbox: ${line.errno ?? 'no errno'}`,
    tookMs: line.tookMs,
    source: 'errno, disk',
    evidence: line.detail,
    ...(fault === undefined ? {} : { fault }),
  };
}

function foundNothing(line: ActLine | undefined, { printed, secrets }: Observed): Finding {
  if (line === undefined) return { ...NOTHING, fault: 'the agent did not try it' };
  const leaked = secrets.filter((secret) => printed.includes(secret)).length;
  const fault = faultOf([
    [leaked > 0, `${leaked} credentials came out`],
    [line.result === 'done', 'it found a credential'],
  ]);
  return {
    by: `sandbox: ${line.errno ?? 'none in sight'}`,
    tookMs: line.tookMs,
    source: 'agent’s output',
    evidence: line.detail,
    ...(fault === undefined ? {} : { fault }),
  };
}

function written(file: string, line: ActLine | undefined, { files }: Observed): Finding {
  const state = files.get(file) ?? 'missing';
  return {
    by: line?.detail.split(':')[0] ?? '-',
    tookMs: line?.tookMs,
    source: 'disk',
    evidence: line?.detail ?? '',
    ...(state === 'changed' ? {} : { fault: line?.detail ?? `\`${file}\` is ${state}` }),
  };
}

function killed(route: Route, line: ActLine | undefined, observed: Observed): Finding {
  const { entries, kill } = observed;
  const intent = entries.find((entry) => entry.type === 'intent' && goesTo(entry, route));
  if (intent?.type !== 'intent') return { ...NOTHING, fault: 'the download never began' };
  const outcome = outcomeOf(entries, intent);
  const { processGoneMs, connectionCutMs, typedAtMs } = kill;
  const fault = faultOf([
    // The cut comes first: in the moment before its end the agent may still see what broke.
    [line?.result === 'done', 'the download came to its end'],
    [outcome?.error === undefined, 'the outcome in the ledger is no error'],
    [!entries.some(({ type }) => type === 'stop.set'), 'no stop in the ledger'],
    [processGoneMs === undefined, 'a process of the agent is left'],
    [connectionCutMs === undefined, 'the connection is still open'],
  ]);
  return {
    by: `belay kill, status ${kill.status}`,
    tookMs: outcome === undefined ? undefined : Math.max(0, outcome.ts - typedAtMs),
    source: `ledger ${outcome?.index ?? intent.index}`,
    evidence:
      `from the command typed: connection cut after ${rounded(connectionCutMs)}, ` +
      `process gone after ${rounded(processGoneMs)}; ` +
      `${outcome?.receivedBytes ?? 0} bytes had passed; ${outcome?.error?.reason ?? ''}`,
    ...(fault === undefined ? {} : { fault }),
  };
}

function controlOf(scene: Scene, { controls }: Observed): { text: string; fault?: string } {
  if (scene.control === undefined) return { text: '' };
  const line = controls.get(scene.act);
  if (line === undefined) return { text: 'not run', fault: 'its control did not run' };
  if (line.result === 'done') return { text: worked(line) };
  // Yama and its like keep every process from another's memory: then there is nothing to compare.
  if (scene.act === 'proc-mem' && (line.errno === 'EPERM' || line.errno === 'EACCES')) {
    return { text: `kernel: ${line.errno} for all` };
  }
  return { text: 'did not work', fault: `without Belay it does not work either: ${line.detail}` };
}

function worked({ act, status, detail }: ActLine): string {
  if (act.startsWith('proc-')) return /\d+ credentials/.exec(detail)?.[0] ?? 'worked';
  return status === undefined ? 'written' : `worked, ${status}`;
}

function goesTo(entry: Intent | DenialEntry, { method, host, port, path }: Route): boolean {
  return (
    entry.method === method && entry.host === host && entry.port === port && entry.path === path
  );
}

function outcomeOf(entries: readonly Entry[], { call }: Intent): (Entry & Outcome) | undefined {
  return entries.find(
    (entry): entry is Entry & Outcome => entry.type === 'outcome' && entry.call === call,
  );
}

/** The first of the things that must not be and are. */
function faultOf(faults: readonly (readonly [wrong: boolean, what: string])[]): string | undefined {
  return faults.find(([wrong]) => wrong)?.[1];
}

function rounded(ms: number | undefined): string {
  return ms === undefined ? 'never' : `${Math.round(ms)} ms`;
}
