// Authorities beyond the public ones that upstreams may be signed by, such as a company's own: imported
// by the operator, kept in the home, shown to sandboxes beside ours. What is trusted changes only after
// the entry that says so is durable.

import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BelayError, reasonOf } from '../core/errors.ts';
import type { Clock } from '../core/ids.ts';
import type { Ledger } from '../ledger/ledger.ts';
import type { Home } from './home.ts';

export interface Root {
  /** SHA-256 of the certificate, hexadecimal, lower case. */
  readonly fingerprint: string;
  readonly subject: string;
  /** ISO 8601. */
  readonly expires: string;
}

export interface Roots {
  list(): readonly Root[];
  /** Answers those that are new. Throws ERR_USAGE for what is no certificate of an authority. */
  add(pem: string): Promise<readonly Root[]>;
  /** By its fingerprint or the beginning of it. Throws ERR_NOT_FOUND. */
  remove(fingerprint: string): Promise<Root>;
}

export interface RootsParts {
  readonly home: Home;
  readonly ledger: Ledger;
  readonly clock: Clock;
  /** Hears at once, and after every change, what is trusted from now on. */
  readonly onChange: (pems: readonly string[]) => void;
}

const MOST_ROOTS = 64;
const LEAST_PREFIX = 8;

export function loadRoots({ home, ledger, clock, onChange }: RootsParts): Roots {
  const path = join(home.keys, 'roots.pem');
  let held: readonly X509Certificate[];
  try {
    held = existsSync(path) ? certificatesIn(readFileSync(path, 'utf8')) : [];
  } catch (error) {
    throw new BelayError('ERR_HOME', `cannot read \`${path}\`: ${reasonOf(error)}`);
  }
  const announce = (): void => onChange(held.map(String));
  const keep = (next: readonly X509Certificate[]): void => {
    // CRASH: the entry stands, and the operator sees with `belay ca list` that it has to be said again.
    writeFileSync(`${path}.new`, next.join(''), { mode: 0o600 });
    renameSync(`${path}.new`, path);
    held = next;
    announce();
  };
  announce();

  return {
    list: () => held.map(rootOf),

    async add(pem) {
      const known = new Set(held.map(({ fingerprint256 }) => fingerprint256));
      const fresh = parse(pem, clock()).filter((one) => !known.has(one.fingerprint256));
      if (held.length + fresh.length > MOST_ROOTS) {
        throw new BelayError('ERR_USAGE', `more than ${MOST_ROOTS} roots`);
      }
      for (const one of fresh)
        await ledger.append({ type: 'ca.import', detail: { ...rootOf(one) } });
      if (fresh.length > 0) keep([...held, ...fresh]);
      return fresh.map(rootOf);
    },

    async remove(fingerprint) {
      const wanted = fingerprint.toLowerCase().replaceAll(':', '');
      const found = held.filter((one) => rootOf(one).fingerprint.startsWith(wanted));
      const [one] = found;
      if (one === undefined || found.length > 1 || wanted.length < LEAST_PREFIX) {
        throw new BelayError('ERR_NOT_FOUND', `no root, or not one only, is \`${fingerprint}\``, {
          hint: '`belay ca list` shows their fingerprints',
        });
      }
      await ledger.append({ type: 'ca.remove', detail: { ...rootOf(one) } });
      keep(held.filter((other) => other !== one));
      return rootOf(one);
    },
  };
}

function parse(pem: string, nowMs: number): readonly X509Certificate[] {
  let found: readonly X509Certificate[];
  try {
    found = certificatesIn(pem);
  } catch (error) {
    throw new BelayError('ERR_USAGE', `not a certificate: ${reasonOf(error)}`);
  }
  if (found.length === 0) {
    throw new BelayError('ERR_USAGE', 'there is no certificate in it', {
      hint: 'a PEM file begins with `-----BEGIN CERTIFICATE-----`',
    });
  }
  for (const one of found) {
    const name = `\`${rootOf(one).subject}\``;
    if (!one.ca) {
      throw new BelayError('ERR_USAGE', `${name} is not a certificate of an authority`);
    }
    if (one.validToDate.getTime() <= nowMs) {
      throw new BelayError('ERR_USAGE', `${name} has expired`);
    }
  }
  return found;
}

function certificatesIn(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

function rootOf(one: X509Certificate): Root {
  return {
    fingerprint: one.fingerprint256.replaceAll(':', '').toLowerCase(),
    subject: one.subject.replaceAll('\n', ', '),
    expires: one.validToDate.toISOString(),
  };
}
