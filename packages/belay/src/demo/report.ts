// The demo's report: one HTML file that needs nothing else, runs nothing and fetches nothing. Text
// that an agent wrote is made printable and escaped, so that it is shown and never obeyed.

import { printable } from '../core/target.ts';
import type { DemoResult } from './demo.ts';
import type { Row } from './judge.ts';
import { STYLE } from './report-style.ts';
import { took } from './table.ts';

export interface ReportFacts {
  readonly version: string;
  readonly node: string;
  readonly kernel: string;
  /** ISO 8601. */
  readonly madeAt: string;
}

export function reportHtml(result: DemoResult, facts: ReportFacts): string {
  const honest = result.rows.filter(({ scene }) => scene.kind === 'honest');
  const reckless = result.rows.filter(({ scene }) => scene.kind === 'reckless');
  const stopped = reckless.filter(({ ok }) => ok).length;
  const done = honest.filter(({ ok }) => ok).length;
  const verdict = result.ok ? 'Held' : 'Not held';
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Belay demo: ${verdict.toLowerCase()}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<p class="eyebrow">Belay demo</p>
<h1>${verdict}: ${stopped} of ${reckless.length} reckless acts stopped, ${done} of ${honest.length} honest steps done</h1>
<p class="lead">A scripted agent worked in a real sandbox against real services on this machine. It did its
task, and then what published reports say that agents did when nobody was watching.</p>
</header>
<main>
<dl class="tiles">
${tile('Reckless acts stopped', `${stopped} / ${reckless.length}`, stopped === reckless.length)}
${tile('Honest steps done', `${done} / ${honest.length}`, done === honest.length)}
${tile('Requests that leaked', String(result.arrivals.length), result.arrivals.length === 0)}
${tile('Ledger', result.verified.ok ? 'Sound' : 'Damaged', result.verified.ok)}
</dl>
${section('Honest work', 'What the task needed, and what its grant covers.', honestTable(honest))}
${section(
  'Reckless acts',
  'Each was tried for real. The last column is the same program, as the same user, without Belay.',
  recklessTable(reckless),
)}
${section('In its own words', 'What the agent reported when it was done. Nothing above relies on it.', words(result.said))}
${section('Where each row comes from', '', SOURCES)}
${section('The record', '', record(result, facts))}
</main>
<footer>Made by <code>belay demo</code>, version ${escaped(facts.version)}, on ${escaped(facts.madeAt)}.</footer>
</body>
</html>
`;
}

/** For text of any origin: printable, and inert in HTML text and quoted attributes. */
export function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;' },
    ...{ '"': '&quot;', "'": '&#39;' },
  };
  return printable(text).replace(/[&<>"']/g, (character) => entities[character] as string);
}

function tile(name: string, value: string, good: boolean): string {
  const state = good ? 'good' : 'bad';
  return `<div class="tile ${state}"><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`;
}

function section(title: string, lead: string, content: string): string {
  const intro = lead === '' ? '' : `<p>${escaped(lead)}</p>`;
  return `<section><h2>${escaped(title)}</h2>${intro}${content}</section>`;
}

function honestTable(rows: readonly Row[]): string {
  return table(
    ['Result', 'What it did', 'How', 'Took', 'Read from'],
    rows.map((row) => [...start(row), how(row), took(row.tookMs), row.source]),
  );
}

function recklessTable(rows: readonly Row[]): string {
  return table(
    ['Result', 'What it tried', 'Stopped by', 'Took', 'Read from', 'Without Belay'],
    rows.map((row) => [...start(row), how(row), took(row.tookMs), row.source, row.control]),
  );
}

interface Markup {
  readonly html: string;
}

function start({ scene, ok, result }: Row): readonly Markup[] {
  return [
    { html: `<span class="badge ${ok ? 'good' : 'bad'}">${escaped(result)}</span>` },
    { html: `<strong>${escaped(scene.tried)}</strong><small>${escaped(scene.story)}</small>` },
  ];
}

function how({ by, evidence, fault }: Row): Markup {
  const wrong = fault === undefined ? '' : `<small class="fault">${escaped(fault)}</small>`;
  return {
    html: `<code>${escaped(by)}</code><small>${escaped(evidence.slice(0, 300))}</small>${wrong}`,
  };
}

function table(head: readonly string[], rows: readonly (readonly (string | Markup)[])[]): string {
  const cell = (content: string | Markup, i: number): string => {
    const inner = typeof content === 'string' ? escaped(content) : content.html;
    return `<td data-name="${escaped(head[i] ?? '')}">${inner}</td>`;
  };
  const heading = head.map((name) => `<th scope="col">${escaped(name)}</th>`).join('');
  const body = rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`).join('\n');
  return `<div class="scroll"><table><thead><tr>${heading}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

function words(said: readonly string[]): string {
  if (said.length === 0) return '<p>It said nothing.</p>';
  return said.map((text) => `<blockquote>${escaped(text)}</blockquote>`).join('\n');
}

const SOURCES = `<dl class="sources">
<dt>ledger N</dt><dd>Entry N of this run’s ledger: written by the gateway, out of the agent’s reach. The
time of a denial runs from the agent’s attempt to the entry; that of a permitted call is its duration; that of the
kill runs from the command typed to the outcome of the cut connection.</dd>
<dt>errno, disk</dt><dd>Writing a file never crosses the gateway. The kernel refused it inside the
sandbox, with the errno that the agent saw, and the file on the disk is compared afterwards.</dd>
<dt>agent’s output</dt><dd>Reading /proc never crosses the gateway either. Everything that the agent
printed is searched for the bystanders’ credentials, which are random and made for this run.</dd>
<dt>disk</dt><dd>The file is in the workspace.</dd>
</dl>`;

function record(result: DemoResult, facts: ReportFacts): string {
  const pairs: readonly (readonly [string, string])[] = [
    ['Run', `${result.run}, ${result.entries} entries`],
    ['belay log verify', result.verified.line],
    ['Arrived at sites that nobody listed', result.arrivals.join(', ') || 'nothing'],
    ['Duration', `${(result.durationMs / 1000).toFixed(1)} s`],
    ['Node', facts.node],
    ['Kernel', facts.kernel],
  ];
  const lines = pairs.map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`);
  return `<dl class="sources">${lines.join('\n')}</dl>`;
}
