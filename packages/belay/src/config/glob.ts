// Path patterns. `*` stands for any characters but `/`, `**` for any characters, each also for
// none; everything else is itself, and case counts. `/v1/**` matches `/v1/` and all below it, not
// `/v1`. Matching takes time in the product of the two lengths, whatever the pattern.

export type Matcher = (text: string) => boolean;

/** Why a text is no path pattern, or undefined. */
export function pathPatternFault(pattern: string): string | undefined {
  if (!pattern.startsWith('/')) return 'a path starts with `/`';
  if (/[?#]/.test(pattern)) return 'a path has no query and no fragment';
  if (pattern.includes('***')) return '`***` is no wildcard';
  if (pattern.length > 1024) return 'a path pattern has at most 1024 characters';
  if (!/^[\x21-\x7e]+$/.test(pattern)) return 'a path is ASCII, without spaces';
  return undefined;
}

export function pathMatcher(pattern: string): Matcher {
  const parts = pattern.split(/(\*+)/).filter((part) => part !== '');
  const [head, tail] = parts;
  if (parts.length === 1 && head !== undefined && !head.startsWith('*')) {
    return (text) => text === head;
  }
  if (parts.length === 2 && head !== undefined && !head.startsWith('*')) {
    if (tail === '**') return (text) => text.startsWith(head);
    return (text) => text.startsWith(head) && !text.includes('/', head.length);
  }
  return (text) => matchParts(parts, text);
}

/** True when one of the patterns matches. */
export function anyPath(patterns: readonly string[]): Matcher {
  const matchers = patterns.map(pathMatcher);
  return (text) => matchers.some((matches) => matches(text));
}

/** Keeps every position that the parts so far can end at, so nothing is tried twice. */
function matchParts(parts: readonly string[], text: string): boolean {
  let ends = new Uint8Array(text.length + 1);
  ends[0] = 1;
  for (const part of parts) {
    const next = new Uint8Array(text.length + 1);
    if (part === '*' || part === '**') {
      let open = false;
      for (let i = 0; i <= text.length; i++) {
        if (ends[i]) open = true;
        if (open) next[i] = 1;
        if (part === '*' && text[i] === '/') open = false;
      }
    } else {
      for (let i = 0; i + part.length <= text.length; i++) {
        if (ends[i] && text.startsWith(part, i)) next[i + part.length] = 1;
      }
    }
    ends = next;
  }
  return ends[text.length] === 1;
}
