// What a grant allows, as written in `allow` or after `--allow`: a preset by name, or one exact
// host with the ports 443 and 80, or with the port that is given. `tls://HOST` and `tcp://HOST:PORT` are
// tunnels, which are not looked into. `git.push:HOST/REPOSITORY#BRANCH` is in allow-push.ts. No host is a
// pattern.

import { type BelayError, reasonOf } from '../core/errors.ts';
import {
  type Host,
  hostPort,
  isAddress,
  parseHost,
  printable,
  type Tunnel,
} from '../core/target.ts';
import { meansPush, type PushEntry, parsePush } from './allow-push.ts';
import { PRESETS, presetNamed } from './presets.ts';
import { didYouMean } from './suggest.ts';

export type AllowEntry =
  | PushEntry
  | { readonly kind: 'preset'; readonly text: string; readonly origin: string }
  | {
      readonly kind: 'host';
      readonly text: string;
      readonly origin: string;
      readonly host: Host;
      readonly ports: readonly number[];
    }
  | {
      readonly kind: 'tunnel';
      readonly text: string;
      readonly origin: string;
      readonly scheme: Tunnel;
      readonly host: Host;
      readonly port: number;
    };

/** Why an entry is refused. */
export interface AllowFault {
  readonly kind: 'fault';
  readonly message: string;
  readonly hint?: string;
}

const TLS_PORT = 443;
const USUAL_PORTS: readonly number[] = [TLS_PORT, 80];

/** `origin` is where the entry was written: `belay.jsonc:7:20`, or `--allow npm-read`. */
export function parseAllow(text: string, origin: string): AllowEntry | AllowFault {
  const name = text.trim();
  if (presetNamed(name) !== undefined) return { kind: 'preset', text: name, origin };
  const shown = `\`${printable(text)}\``;
  if (meansPush(name)) return pushOf(name, shown, origin);
  const tunnel = /^(tls|tcp):\/\/(\[[^\]/]*\]|[^:/]*)(?::(\d+))?\/?$/i.exec(name);
  if (tunnel !== null) return parseTunnel(tunnel, shown, origin);
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(name)) {
    const url = URL.parse(name);
    return url === null || url.host === ''
      ? fault(`${shown} is neither a host nor a preset`)
      : fault(`${shown} is a URL, not a host`, `did you mean \`${url.host}\`?`);
  }
  if (name.includes('*')) {
    return fault(
      `${shown} is a pattern, and a grant names exact hosts`,
      'name each host, or write a Cedar policy with `resource in Host::"example.com"`',
    );
  }
  const slash = name.indexOf('/');
  if (slash >= 0) {
    return fault(
      `${shown} has a path, and a grant names a host`,
      `did you mean \`${name.slice(0, slash)}\`?`,
    );
  }
  const split = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(name);
  const [, hostText = name, portText] = split ?? [];
  if (split !== null && portText !== undefined && !/^\d+$/.test(portText)) {
    return unknownPreset(name, shown);
  }
  // One label without a port is more likely a misspelt preset than a host.
  if (portText === undefined && !hostText.includes('.') && !hostText.includes(':')) {
    const near = unknownPreset(name, shown);
    return near.hint?.startsWith('did you mean')
      ? near
      : fault(near.message, `for a host of that name write \`${name}:443\``);
  }
  const host = hostOf(hostText);
  if (typeof host !== 'string') return host;
  if (portText === undefined) return { kind: 'host', text: host, origin, host, ports: USUAL_PORTS };
  const port = Number(portText);
  if (!(port >= 1 && port <= 65_535)) return fault(`${shown} has a port outside 1 to 65535`);
  const bracketed = host.includes(':') ? `[${host}]` : host;
  return { kind: 'host', text: `${bracketed}:${port}`, origin, host, ports: [port] };
}

function parseTunnel(
  [, word = '', hostText = '', portText]: RegExpExecArray,
  shown: string,
  origin: string,
): AllowEntry | AllowFault {
  const scheme = word.toLowerCase() as Tunnel;
  if (portText === undefined && scheme === 'tcp') {
    return fault(`${shown} names no port`, `did you mean \`tcp://${hostText}:5432\`?`);
  }
  const host = hostOf(hostText);
  if (typeof host !== 'string') return host;
  if (scheme === 'tls' && isAddress(host)) {
    return fault(
      `${shown} is an address, and TLS says only names in the open`,
      `did you mean \`tcp://${hostPort({ host, port: Number(portText ?? TLS_PORT) })}\`?`,
    );
  }
  const port = Number(portText ?? TLS_PORT);
  if (!(port >= 1 && port <= 65_535)) return fault(`${shown} has a port outside 1 to 65535`);
  return {
    kind: 'tunnel',
    text: `${scheme}://${hostPort({ host, port })}`,
    origin,
    scheme,
    host,
    port,
  };
}

function pushOf(name: string, shown: string, origin: string): AllowEntry | AllowFault {
  try {
    const entry = parsePush(name, origin);
    if (entry !== undefined) return entry;
  } catch (error) {
    return fault(reasonOf(error as BelayError));
  }
  return fault(
    `${shown} names no push`,
    'write it as `git.push:HOST/REPOSITORY#BRANCH`, with `git.force-push` or `git.delete-ref` for those',
  );
}

function hostOf(text: string): Host | AllowFault {
  try {
    return parseHost(text);
  } catch (error) {
    return fault(reasonOf(error as BelayError));
  }
}

function unknownPreset(name: string, shown: string): AllowFault {
  const names = PRESETS.map((preset) => preset.name);
  return fault(
    `${shown} is neither a host nor a preset`,
    didYouMean(name, names) ??
      `the presets are ${names.map((preset) => `\`${preset}\``).join(', ')}`,
  );
}

function fault(message: string, hint?: string): AllowFault {
  return { kind: 'fault', message, ...(hint === undefined ? {} : { hint }) };
}
