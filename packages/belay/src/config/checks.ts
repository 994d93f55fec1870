// What several parts of a configuration are checked by: hosts, methods, path patterns.

import { reasonOf } from '../core/errors.ts';
import { type Host, parseHost, printable } from '../core/target.ts';
import type { Path } from './document.ts';
import { pathPatternFault } from './glob.ts';

export type Report = (path: Path, message: string, hint?: string) => void;

export function checkMethods(report: Report, path: Path, methods: readonly string[]): void {
  for (const [i, method] of methods.entries()) {
    if (/^[A-Z]{1,20}$/.test(method)) continue;
    const upper = method.toUpperCase();
    report(
      [...path, i],
      `\`${printable(method)}\` is not a method`,
      /^[A-Z]{1,20}$/.test(upper) ? `did you mean \`${upper}\`?` : undefined,
    );
  }
}

export function checkPaths(report: Report, path: Path, patterns: readonly string[]): void {
  for (const [i, pattern] of patterns.entries()) {
    const why = pathPatternFault(pattern);
    if (why !== undefined) report([...path, i], `\`${printable(pattern)}\` is refused: ${why}`);
  }
}

export const HOST_PORT = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/;

export function isPort(port: number): boolean {
  return port >= 1 && port <= 65_535;
}

/** `HOST`, on port 443, or `HOST:PORT`. */
export function hostPortAt(report: Report, path: Path, text: string): { host: Host; port: number } {
  const [, named = text, port = '443'] = HOST_PORT.exec(text) ?? [];
  if (!isPort(Number(port))) report(path, `\`${printable(text)}\` has a port outside 1 to 65535`);
  return { host: hostAt(report, path, named) ?? ('' as Host), port: Number(port) };
}

export function hostAt(report: Report, path: Path, text: string): Host | undefined {
  try {
    return parseHost(text);
  } catch (error) {
    const bare = URL.parse(text)?.hostname ?? '';
    report(path, reasonOf(error), bare === '' ? undefined : `did you mean \`${bare}\`?`);
    return undefined;
  }
}
