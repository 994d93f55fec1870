import fc from 'fast-check';
import { expect } from 'vitest';
import { DOTENV_PLACEHOLDER, dotenvPlaceholders } from '../../../src/sandbox/dotenv.ts';
import { verifies } from '../../verifies.ts';

verifies(
  'fsr.dotenv',
  'names stay, values become placeholders that a program can start with',
  () => {
    const text = [
      '# a comment with sk_live_comment',
      'EMPTY=',
      'export STRIPE_KEY="sk_live_quoted"',
      "TOKEN = 'single'  ",
      'URL=postgres://user:password@db.internal/app',
      'PORT=3000',
      'PIN=3000',
      'NODE_ENV=development',
      'PEM="-----BEGIN',
      'SECRET_LINE=inside a value',
      '-----END"',
      'not a line',
      'LAST=x',
    ].join('\n');
    expect(dotenvPlaceholders(text).split('\n').slice(1)).toEqual([
      'EMPTY=',
      `STRIPE_KEY=${DOTENV_PLACEHOLDER}`,
      `TOKEN=${DOTENV_PLACEHOLDER}`,
      `URL=postgres://${DOTENV_PLACEHOLDER}.invalid/`,
      'PORT=3000',
      `PIN=${DOTENV_PLACEHOLDER}`,
      'NODE_ENV=development',
      `PEM=${DOTENV_PLACEHOLDER}`,
      `LAST=${DOTENV_PLACEHOLDER}`,
      '',
    ]);
  },
);

verifies('fsr.dotenv', 'no value of whatever file comes through', () => {
  const value = fc.stringMatching(/^[!-~]{0,10}SECRET[ -~]{0,20}$/);
  const name = fc.stringMatching(/^[A-Z][A-Z_]{0,10}$/);
  const line = fc.oneof(
    fc.tuple(name, value).map(([key, text]) => `${key}=${text}`),
    fc.tuple(name, value).map(([key, text]) => `export ${key}="${text}\n${text}"`),
    value,
  );
  fc.assert(
    fc.property(fc.array(line), (all) => {
      const shown = dotenvPlaceholders(all.join('\n'));
      const values = shown.split('\n').map((text) => text.slice(text.indexOf('=') + 1));
      return values.every((text) => !text.includes('SECRET'));
    }),
  );
});
