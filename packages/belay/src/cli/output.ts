// How the commands print: data on stdout, words on stderr, errors as `belay: error:` and
// `belay: hint:`. Whatever an agent may have written is made printable first.

import { stripVTControlCharacters, styleText } from 'node:util';
import { BelayError, reasonOf } from '../core/errors.ts';
import { EXIT, exitCodeOf } from '../core/exit.ts';
import { printable } from '../core/target.ts';

const JSON_VERSION = 1;

/** One versioned JSON document. */
export function printJson(kind: string, data: object): void {
  process.stdout.write(jsonDocument(kind, data));
}

export function jsonDocument(kind: string, data: object): string {
  return jsonLine({ v: JSON_VERSION, kind, ...data });
}

/** The same value as ever; what JSON leaves bare and a terminal would obey is escaped. */
export function jsonLine(value: object): string {
  const text = JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (found) =>
    // By UTF-16 unit: there are formatting characters beyond U+FFFF.
    found.replace(/./gs, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`),
  );
  return `${text}\n`;
}

/** Prints an error and sets the exit status. */
export function fail(error: unknown): void {
  const words = (text: string) => printable(stripVTControlCharacters(text));
  const label = styleText('red', 'belay: error:', { stream: process.stderr });
  process.stderr.write(`${label} ${words(reasonOf(error))}\n`);
  if (error instanceof BelayError && error.hint !== undefined) {
    process.stderr.write(`belay: hint: ${words(error.hint)}\n`);
  }
  process.exitCode = error instanceof BelayError ? exitCodeOf(error.code) : EXIT.failed;
}

/** Columns aligned by their widest cell; cells come from agents too. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map(printable));
  const widths = head.map((name, i) =>
    Math.max(name.length, ...clean.map((row) => (row[i] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return `${[head, ...clean].map(line).join('\n')}\n`;
}

export function bytes(size: number): string {
  if (size < 1024) return `${size} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let value = size;
  let unit = -1;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

export function milliseconds(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}
