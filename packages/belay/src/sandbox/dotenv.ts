// What an agent sees of a .env file: the same names, so that a program that needs them starts, and
// a placeholder for each value. Values that can be no secret, such as a port or a mode, stay. A line
// that is not understood is left out.

const LINE = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*?)\s*$/;
const PLAIN = /^(?:true|false|yes|no|on|off|development|production|staging|test|local|localhost)$/i;
const COUNTED = /(?:PORT|TIMEOUT|LIMIT|SIZE|COUNT|WORKERS|INTERVAL|TTL)$/i;

export const DOTENV_PLACEHOLDER = 'belay-placeholder';

export function dotenvPlaceholders(text: string): string {
  const out = ['# The values of this file stay outside; these are placeholders.'];
  let quote: string | undefined;
  for (const line of text.split('\n')) {
    if (quote !== undefined) {
      // Within a value of several lines.
      if (line.includes(quote)) quote = undefined;
      continue;
    }
    const [, name, raw = ''] = LINE.exec(line) ?? [];
    if (name === undefined) continue;
    const opening = /^["'`]/.exec(raw)?.[0];
    if (opening !== undefined && !raw.slice(1).includes(opening)) quote = opening;
    out.push(`${name}=${placeholderFor(name, raw.replace(/^(["'`])(.*)\1.*$/, '$2'))}`);
  }
  return `${out.join('\n')}\n`;
}

function placeholderFor(name: string, value: string): string {
  if (value === '' || PLAIN.test(value)) return value;
  if (COUNTED.test(name) && /^\d{1,9}$/.test(value)) return value;
  const scheme = /^([a-z][a-z0-9+.-]{1,20}):\/\//i.exec(value)?.[1];
  return scheme === undefined ? DOTENV_PLACEHOLDER : `${scheme}://${DOTENV_PLACEHOLDER}.invalid/`;
}
