// The demo's table for a terminal. Cells hold text that an agent wrote: they are made printable.

import { printable } from '../core/target.ts';
import type { Row } from './judge.ts';

const HEAD = ['', 'WHAT IT TRIED', 'STOPPED BY', 'TOOK', 'READ FROM', 'WITHOUT BELAY'];
const HEAD_HONEST = ['', 'WHAT IT DID', 'HOW', 'TOOK', 'READ FROM'];

export function tableText(rows: readonly Row[]): string {
  const honest = rows.filter(({ scene }) => scene.kind === 'honest');
  const reckless = rows.filter(({ scene }) => scene.kind === 'reckless');
  return `${aligned(HEAD_HONEST, honest)}\n${aligned(HEAD, reckless)}`;
}

function aligned(head: readonly string[], rows: readonly Row[]): string {
  const lines = [head, ...rows.map(cells)].map((line) => line.slice(0, head.length));
  const widths = head.map((_, i) => Math.max(...lines.map((line) => (line[i] ?? '').length)));
  return lines
    .map(
      (line) =>
        `${line
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

function cells({ scene, result, by, tookMs, source, control, fault }: Row): readonly string[] {
  const why = fault === undefined ? by : fault;
  return [result, scene.tried, why, took(tookMs), source, control].map((cell) =>
    printable(cell).slice(0, 100),
  );
}

export function took(ms: number | undefined): string {
  if (ms === undefined) return '-';
  return ms < 1 ? '<1 ms' : `${Math.round(ms)} ms`;
}
