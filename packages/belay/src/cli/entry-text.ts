// One ledger entry as one line for people.

import type { CallHead, Entry, RunOpen } from '../core/entry.ts';
import { hostPort, printable } from '../core/target.ts';
import { bytes, milliseconds } from './output.ts';

export function entryText(entry: Entry): string {
  const time = new Date(entry.ts).toISOString().slice(11, 23);
  const run = 'run' in entry && entry.run !== undefined ? entry.run : '-';
  return printable(`${String(entry.index).padStart(6)} ${time} ${run.padEnd(10)} ${what(entry)}`);
}

function what(entry: Entry): string {
  switch (entry.type) {
    case 'intent':
      return `intent   ${entry.method} ${entry.scheme}://${hostPort(entry)}${entry.path} (${entry.effect})${pushed(entry)}`;
    case 'intent.extended':
      return `more     ${bytes(entry.bytes)} reserved`;
    case 'denial':
      return `denied   ${entry.method} ${entry.scheme}://${hostPort(entry)}${entry.path}: ${entry.code}, ${entry.reason}; told ${entry.told.status}${pushed(entry)}`;
    case 'outcome': {
      const how =
        entry.error === undefined
          ? `${entry.status}`
          : `${entry.error.code}: ${entry.error.reason}`;
      const { redacted = [], minted = [] } = entry;
      const hidden = redacted.length === 0 ? '' : `, redacted: ${redacted.join(', ')}`;
      const taken = minted.length === 0 ? '' : `, minted: ${minted.join(', ')}`;
      return `outcome  ${how}, ${bytes(entry.sentBytes)} out, ${bytes(entry.receivedBytes)} in, ${milliseconds(entry.durationMs)}${hidden}${taken}`;
    }
    case 'outcome.unknown':
      return `unknown  whether the effect of entry ${entry.intentIndex} happened`;
    case 'run.open':
      return `open     ${entry.agent} in ${entry.env} (${openedHow(entry)}): ${entry.command.join(' ')}`;
    case 'grant.expired':
      return `expired  the grant ended at ${entry.detail.at}`;
    case 'run.close': {
      const { changes = [], changeCount = 0, unwalked = 0 } = entry;
      const more = changeCount - changes.length;
      return [
        `close    ${entry.reason}: ${entry.calls} calls, ${entry.denials} denied, ${bytes(entry.bytes)}`,
        ...changes.map(({ path, how }) => `${how} ${path}`),
        ...(more > 0 ? [`${more} more changes`] : []),
        ...(unwalked > 0 ? [`${unwalked} folders not searched`] : []),
      ].join('; ');
    }
    case 'sandbox.certificate':
      return `probed   ${entry.checks.length} escapes, none of which works`;
    case 'mask.lost': {
      const { path, forMs, restored } = entry.detail;
      const then = restored ? `protected again within ${forMs} ms` : 'the run ends';
      return `mask     ${path} was replaced from outside; ${then}`;
    }
    case 'net.name':
      return `name     ${entry.name}`;
    case 'net.denial':
      return `refused  ${hostPort(entry)}: ${entry.reason}`;
    default:
      return `${entry.type}  ${JSON.stringify(entry.detail)}`;
  }
}

function openedHow({ mode, containment, parent }: RunOpen): string {
  return [
    mode,
    ...(containment === 'external' ? ['no sandbox'] : []),
    ...(parent === undefined ? [] : [`part of ${parent}`]),
  ].join(', ');
}

/** What a push would do to which ref. */
function pushed({ push }: CallHead): string {
  if (push === undefined) return '';
  const { refs, more } = push;
  const each = refs.map(({ change, ref, old, new: id }) => {
    const ids = [old, id].map((one) => one?.slice(0, 12) ?? 'nothing').join('..');
    return `${change} ${ref} ${ids}`;
  });
  return [`; push to ${push.repository}`, ...each, ...(more ? [`${more} more refs`] : [])].join(
    '; ',
  );
}
