// Another reader of HTTP/1.1 requests: RFC 9112 to the letter, in whole, without repair. What it does not
// read as one thing is broken, and so is all that comes behind. Two freedoms that it leaves are taken as
// node:http takes them: they decide nothing. Nothing of Belay is used.

export interface ReadRequest {
  readonly method: string;
  readonly target: string;
  /** Names in lower case. */
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
  /** Its end is known, but its coding is none that may pass. */
  readonly odd: boolean;
}

export interface ReadRequests {
  readonly requests: readonly ReadRequest[];
  /** What is behind the last one: nothing, the beginning of another, or no request. */
  readonly rest: 'none' | 'more' | 'broken';
  readonly restAt: number;
}

/** Section 3 lets several spaces be one, and node:http takes that up; what goes on has one. */
const REQUEST_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) +([\x21-\x7e\x80-\xff]+) +HTTP\/1\.([01])$/;
const FIELD_LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)$/;
const CHUNK_LINE = /^([0-9A-Fa-f]{1,8})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;

class Short extends Error {}
class Broken extends Error {}

export function readRequests(bytes: Buffer): ReadRequests {
  const requests: ReadRequest[] = [];
  for (let at = 0; ; ) {
    // Section 2.2: empty lines before a request are nothing; node:http takes each CR and LF for one.
    while (bytes[at] === 13 || bytes[at] === 10) at += 1;
    if (at >= bytes.length) return { requests, rest: 'none', restAt: at };
    try {
      const { request, end } = readRequest(bytes, at);
      requests.push(request);
      at = end;
    } catch (error) {
      if (error instanceof Short) return { requests, rest: 'more', restAt: at };
      if (error instanceof Broken) return { requests, rest: 'broken', restAt: at };
      throw error;
    }
  }
}

function readRequest(bytes: Buffer, from: number): { request: ReadRequest; end: number } {
  let at = from;
  const line = (): string => {
    const end = bytes.indexOf('\r\n', at);
    if (end === -1) throw new Short();
    const text = bytes.toString('latin1', at, end);
    at = end + 2;
    return text;
  };
  const take = (count: number): Buffer => {
    if (at + count > bytes.length) throw new Short();
    at += count;
    return bytes.subarray(at - count, at);
  };
  const fieldLines = (): (readonly [string, string])[] => {
    const fields: (readonly [string, string])[] = [];
    for (let text = line(); text !== ''; text = line()) {
      const [, name, value] = matched(FIELD_LINE, text);
      fields.push([name.toLowerCase(), value.replace(/^[\t ]+|[\t ]+$/g, '')]);
    }
    return fields;
  };

  const [, method, target, minor] = matched(REQUEST_LINE, line());
  const fields = fieldLines();
  const values = (wanted: string): string[] =>
    fields.filter(([name]) => name === wanted).map(([, value]) => value);
  const [codings, lengths] = [values('transfer-encoding'), values('content-length')];
  const parts: Buffer[] = [];
  let odd = false;
  if (codings.length > 0) {
    // Section 6.3: only chunks at the very end, once, and no length beside them say where it ends.
    const inTurn = codings.join().toLowerCase().split(',');
    if (!/^[\t ]*chunked[\t ]*$/.test(inTurn.at(-1) ?? '') || lengths.length > 0)
      throw new Broken();
    odd = inTurn.length > 1 || minor === '0';
    for (;;) {
      const [, digits] = matched(CHUNK_LINE, line());
      const size = Number.parseInt(digits, 16);
      if (size === 0) break;
      parts.push(take(size));
      if (line() !== '') throw new Broken();
    }
    fieldLines();
  } else if (lengths.length > 0) {
    const [length = ''] = lengths;
    if (lengths.length > 1 || !/^\d{1,15}$/.test(length)) throw new Broken();
    parts.push(take(Number(length)));
  }
  return { request: { method, target, fields, body: Buffer.concat(parts), odd }, end: at };
}

function matched(pattern: RegExp, text: string): [string, string, string, string] {
  const match = pattern.exec(text);
  if (match === null) throw new Broken();
  return [match[0], match[1] ?? '', match[2] ?? '', match[3] ?? ''];
}
