import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parsePath } from '../../../src/gateway/http/path.ts';
import { verifies } from '../../verifies.ts';

function normal(text: string): string {
  const parsed = parsePath(text);
  if (parsed.kind === 'refused') throw new Error(`${text}: ${parsed.reason}`);
  return parsed.query === '' ? parsed.path : `${parsed.path}?${parsed.query}`;
}

verifies('core.host', 'a path has one form, whatever escapes the client chose', () => {
  for (const [text, path] of [
    ['/', '/'],
    ['/a/b.json', '/a/b.json'],
    ['/a/', '/a/'],
    ['/%61dmin', '/admin'],
    ['/a%2db', '/a-b'],
    ['/%2Ehidden', '/.hidden'],
    ['/.well-known/x', '/.well-known/x'],
    ['/...', '/...'],
    ['/a%20b', '/a%20b'],
    ['/;jsessionid=A', '/;jsessionid=A'],
    ['/a/;jsessionid=A', '/a/;jsessionid=A'],
    ['/caf%c3%a9', '/caf%C3%A9'],
    ['/a{b}|c', '/a%7Bb%7D%7Cc'],
    ['/v1/models/x:generate', '/v1/models/x:generate'],
    ['/@types%2fnode', '/@types/node'],
    ['/@types%2Fnode/-/node-1.tgz', '/@types/node/-/node-1.tgz'],
    ['/p?q=../%2f&u=http://x', '/p?q=../%2f&u=http://x'],
    ['/a;x=1/..a;b/...;c', '/a;x=1/..a;b/...;c'],
    ['/a%3bb', '/a%3Bb'],
    ['/p?', '/p'],
    ['/p?a?b', '/p?a?b'],
  ] as const) {
    expect([text, normal(text)]).toEqual([text, path]);
  }
});

verifies('core.host', 'a path that two servers could read differently is refused', () => {
  for (const [text, reason] of [
    ['/a/../b', 'a dot segment in the path'],
    ['/a/./b', 'a dot segment in the path'],
    ['/..', 'a dot segment in the path'],
    ['/a/%2e%2e/b', 'a dot segment in the path'],
    ['/a/.%2E', 'a dot segment in the path'],
    ['/public/..;/admin', 'a dot segment in the path'],
    ['/public/%2e%2e;x=1/admin', 'a dot segment in the path'],
    ['/a/..%3b/b', 'a dot segment in the path'],
    ['/a/.;/b', 'a dot segment in the path'],
    ['/a/..;x;y', 'a dot segment in the path'],
    ['/a/;/b', 'an empty segment in the path'],
    ['/a/%3Bx/b', 'an empty segment in the path'],
    ['/;/', 'an empty segment in the path'],
    ['/a%2fb', 'an encoded slash in the path'],
    ['/a%2F..%2Fb', 'an encoded slash in the path'],
    ['/@a%2f..', 'an encoded slash in the path'],
    ['/x@a%2fb', 'an encoded slash in the path'],
    ['/@a%2fb%2fc', 'an encoded slash in the path'],
    ['/a%5cb', 'an encoded backslash in the path'],
    ['/a\\b', 'a character that a path cannot hold'],
    ['/a%00', 'an encoded control character in the path'],
    ['/a%0d%0a', 'an encoded control character in the path'],
    ['/a%7f', 'an encoded control character in the path'],
    ['/a//b', 'an empty segment in the path'],
    ['//evil.example/a', 'an empty segment in the path'],
    ['/a%zz', 'a character that a path cannot hold'],
    ['/a%', 'a character that a path cannot hold'],
    ['/a#b', 'a character that a path cannot hold'],
    ['/caf\u00e9', 'a character that a path cannot hold'],
    ['/a?b#c', 'a character that a query cannot hold'],
    ['/a?caf\u00e9', 'a character that a query cannot hold'],
    ['*', 'the path does not begin with a slash'],
  ] as const) {
    expect([text, parsePath(text)]).toEqual([text, { kind: 'refused', reason }]);
  }
});

test('what is accepted is stable, and holds nothing that could be read twice', () => {
  const piece = fc.constantFrom(
    '/',
    '.',
    '..',
    ';',
    '%3b',
    '%2e',
    '%2F',
    '%5C',
    'a',
    '@',
    '%41',
    '%25',
    '%',
    '?',
    '~',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const parsed = parsePath(`/${pieces.join('')}`);
      if (parsed.kind === 'refused') return;
      expect(parsePath(parsed.path)).toEqual({ ...parsed, query: '' });
      expect(parsed.path).not.toMatch(
        /\/\.{1,2}(?:;|%3b|\/|$)|\/(?:(?:;|%3b)[^/]*)?\/|%2[ef]|%5c|\\/i,
      );
    }),
    { numRuns: 5000 },
  );
});
