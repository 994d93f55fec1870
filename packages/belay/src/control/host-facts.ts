// What a certificate says about the host: enough to know later where and with what a sandbox held.

import { readFileSync } from 'node:fs';
import { arch, hostname, release, type } from 'node:os';

export function hostFacts(): Readonly<Record<string, string>> {
  return {
    host: hostname(),
    kernel: `${type()} ${release()} ${arch()}`,
    system: systemName(),
    node: process.version,
    belay: belayVersion(),
  };
}

function belayVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function systemName(): string {
  try {
    const text = readFileSync('/etc/os-release', 'utf8');
    return /^PRETTY_NAME="?([^"\n]{1,100})/m.exec(text)?.[1] ?? 'unknown';
  } catch {
    return 'unknown';
  }
}
