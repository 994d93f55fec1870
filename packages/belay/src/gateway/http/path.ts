// A request's path has one meaning, or the request is refused. What policy sees is what is sent:
// percent escapes of unreserved characters are decoded and the others written in capitals (RFC 3986
// section 6.2.2), and everything that two servers could read differently is refused: dot segments and
// empty ones, also with parameters behind them, backslashes, encoded slashes and control characters,
// bytes outside ASCII.

/** Nothing to decode, no segment that begins with a dot or a parameter, none that is empty. */
const PLAIN = /^(?:\/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)*\/?$/;
const SEGMENT = /^(?:[A-Za-z0-9._~!$&'()*+,;=:@|^`"<>{}[\]-]|%[0-9A-Fa-f]{2})+$/;
const UNRESERVED = /^[A-Za-z0-9._~-]$/;
/** Sent bare by some clients, against RFC 3986; escaped they mean the same. */
const UNWISE = /[|^`"<>{}[\]]/g;
/** What RFC 3986 forbids in a query but clients send; a fragment is not among it. */
const QUERY = /^[!"$-~]*$/;
/** npm's form of a scoped package name, in which the slash is escaped. */
const NPM_SCOPE = /^(@[A-Za-z0-9._~-]+)%2[Ff]([A-Za-z0-9._~-]+)$/;

export type PathResult =
  | { readonly kind: 'path'; readonly path: string; readonly query: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Takes the path and query of a request target apart; `text` begins with a slash. */
export function parsePath(text: string): PathResult {
  const mark = text.indexOf('?');
  const raw = mark === -1 ? text : text.slice(0, mark);
  const query = mark === -1 ? '' : text.slice(mark + 1);
  if (query !== '' && !QUERY.test(query)) return refused('a character that a query cannot hold');
  if (PLAIN.test(raw)) return { kind: 'path', path: raw, query };
  if (raw[0] !== '/') return refused('the path does not begin with a slash');
  const segments = raw.slice(1).split('/');
  const last = segments.length - 1;
  let path = '';
  for (let i = 0; i <= last; i++) {
    const segment = segments[i] as string;
    if (segment === '' && i === last) {
      path += '/';
      break;
    }
    const parsed = parseSegment(segment, i === last);
    if (typeof parsed !== 'string') return parsed;
    path += `/${parsed}`;
  }
  return { kind: 'path', path, query };
}

function parseSegment(
  segment: string,
  isLast: boolean,
): string | { kind: 'refused'; reason: string } {
  if (segment === '') return refused('an empty segment in the path');
  // The registry reads both forms alike; only this shape is unescaped, and only as a whole segment.
  const scoped = NPM_SCOPE.exec(segment);
  if (scoped !== null && !isDots(scoped[2] as string)) return `${scoped[1]}/${scoped[2]}`;
  if (!SEGMENT.test(segment)) return refused('a character that a path cannot hold');
  let bad: string | undefined;
  const escaped = segment.replace(UNWISE, (char) => `%${char.charCodeAt(0).toString(16)}`);
  const normal = escaped.replace(/%[0-9A-Fa-f]{2}/g, (triplet) => {
    const code = Number.parseInt(triplet.slice(1), 16);
    if (code === 0x2f) bad = 'an encoded slash in the path';
    else if (code === 0x5c) bad = 'an encoded backslash in the path';
    else if (code < 0x20 || code === 0x7f) bad = 'an encoded control character in the path';
    const char = String.fromCharCode(code);
    return UNRESERVED.test(char) ? char : triplet.toUpperCase();
  });
  if (bad !== undefined) return refused(bad);
  // Servers that know path parameters (`;x=1`) take them off first, and Java's do so before they
  // resolve dot segments.
  const [name = ''] = normal.split(/;|%3B/, 1);
  // Behind the last slash there may be nothing: `/;jsessionid=x` is the root to those who know them.
  if (name === '' && !isLast) return refused('an empty segment in the path');
  if (isDots(name)) return refused('a dot segment in the path');
  return normal;
}

function isDots(segment: string): boolean {
  return segment === '.' || segment === '..';
}

function refused(reason: string): { kind: 'refused'; reason: string } {
  return { kind: 'refused', reason };
}
