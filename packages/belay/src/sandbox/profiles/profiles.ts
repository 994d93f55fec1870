// Finds the profile of a command and turns it into what the sandbox needs. The user's own files are
// read here, outside; what comes of them is written inside, where a link that an agent left in its
// home leads to nothing of the host.

import { readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { claude } from './claude.ts';
import { codex } from './codex.ts';
import { gemini } from './gemini.ts';
import { chromium, containers } from './nested.ts';
import { opencode } from './opencode.ts';
import { pi } from './pi.ts';
import type { HomeFile, Profile, ProfileFile } from './profile.ts';

export const PROFILES: readonly Profile[] = [
  ...[claude, codex, opencode, pi, gemini],
  ...[chromium, containers],
];

const MOST_BYTES = 256 * 1024;

/** By the program's name; undefined for one that nobody knows, which needs none. */
export function profileOf(command: readonly string[]): Profile | undefined {
  const name = basename(command[0] ?? '');
  return PROFILES.find(({ commands }) => commands.includes(name));
}

export function homeFiles(profile: Profile, userHome: string): readonly HomeFile[] {
  const copied = profile.copied.flatMap((path): HomeFile[] => {
    const content = readText(join(userHome, path));
    return content === undefined ? [] : [{ path, content, when: 'always' }];
  });
  return [...profile.files.map((file) => homeFile(file, userHome)), ...copied];
}

function homeFile(file: ProfileFile, userHome: string): HomeFile {
  const { path } = file;
  if (file.kind === 'missing') return { path, content: file.content, when: 'missing' };
  const own = parseObject(readText(join(userHome, path)));
  const kept = file.keys.filter((key) => Object.hasOwn(own, key)).map((key) => [key, own[key]]);
  const settings = { ...Object.fromEntries(kept), ...file.always };
  return { path, content: `${JSON.stringify(settings, null, 2)}\n`, when: 'always' };
}

function parseObject(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? '{}');
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {}; // with comments, or broken: the agent starts with its own defaults
  }
}

/** Undefined when there is no such file of the user's. */
function readText(path: string): string | undefined {
  try {
    const found = statSync(path);
    return found.isFile() && found.size <= MOST_BYTES ? readFileSync(path, 'utf8') : undefined;
  } catch {
    return undefined;
  }
}
