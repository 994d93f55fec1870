// The command list of a push, which stands before its pack (gitprotocol-pack, "Reference Update
// Request and Packfile Transfer"). Read from the first bytes of the body, bounded, and more strictly
// than git does: what two servers could read differently is refused, and so is what we do not know.

const MOST_COMMANDS = 32;
const MOST_SHALLOW = 1024;
const MOST_REF_BYTES = 255;

export interface Command {
  readonly ref: string;
  /** Undefined where there is none: the ref is made, or deleted. */
  readonly old: string | undefined;
  readonly new: string | undefined;
}

export interface CommandList {
  readonly kind: 'commands';
  readonly commands: readonly Command[];
  readonly hash: 'sha1' | 'sha256';
  /** Commits that the client has without their parents, and a server may take so from it. */
  readonly shallow: ReadonlySet<string>;
  /** Where the pack begins. */
  readonly end: number;
}

export interface Unread {
  readonly kind: 'unreadable';
  readonly reason: string;
}

/** `whole`: no byte of the body is missing. */
export function readCommands(first: Buffer, whole: boolean): CommandList | Unread {
  const commands: Command[] = [];
  const refs = new Set<string>();
  let hash: CommandList['hash'] = 'sha1';
  const shallow = new Set<string>();
  let at = 0;
  for (;;) {
    const line = packet(first, at);
    if (line === undefined) return unread('its command list is not whole');
    if (typeof line === 'string') return unread(line);
    at = line.end;
    if (line.payload === undefined) break;
    const { payload } = line;
    if (commands.length === 0 && payload.startsWith('shallow ')) {
      if (!SHALLOW.test(payload)) return unread('a shallow line that is none');
      shallow.add(payload.slice('shallow '.length));
      if (shallow.size > MOST_SHALLOW) return unread(`more than ${MOST_SHALLOW} shallow lines`);
      continue;
    }
    const [text = '', capabilities, ...more] = payload.split('\0');
    if (more.length > 0 || (capabilities !== undefined) !== (commands.length === 0)) {
      return unread('capabilities in the wrong place');
    }
    const command = commandOf(text);
    if (typeof command === 'string') return unread(command);
    if (capabilities !== undefined) {
      const fault = capabilityFault(capabilities, text);
      if (fault !== undefined) return unread(fault);
      hash = isSha256(text) ? 'sha256' : 'sha1';
    } else if (isSha256(text) !== (hash === 'sha256')) return unread('ids of two lengths');
    if (refs.has(command.ref)) return unread('two commands for one ref');
    refs.add(command.ref);
    commands.push(command);
    if (commands.length > MOST_COMMANDS) return unread(`more than ${MOST_COMMANDS} commands`);
  }
  // Only objects need a pack; a server might take what else comes for more commands. What is read
  // first of a long body is longer than any list that is taken.
  const objects = commands.some((command) => command.new !== undefined);
  const rest = first.subarray(at, at + 4).toString('latin1');
  if (objects ? rest !== 'PACK' : rest !== '' || !whole) {
    return unread('something else than a pack follows its command list');
  }
  return { kind: 'commands', commands, hash, shallow, end: at };
}

interface Packet {
  /** Undefined: the flush packet. */
  readonly payload: string | undefined;
  readonly end: number;
}

/** Undefined when the bytes end before the packet does. */
function packet(bytes: Buffer, at: number): Packet | string | undefined {
  const length = bytes.subarray(at, at + 4).toString('latin1');
  if (length.length < 4) return undefined;
  if (!/^[0-9a-f]{4}$/.test(length)) return 'a packet without a length';
  const size = Number.parseInt(length, 16);
  if (size === 0) return { payload: undefined, end: at + 4 };
  if (size <= 4) return 'a packet that has no place in a push';
  const end = at + size;
  if (end > bytes.length) return undefined;
  const payload = bytes.subarray(at + 4, end).toString('latin1');
  return { payload: payload.endsWith('\n') ? payload.slice(0, -1) : payload, end };
}

const ID = '[0-9a-f]{40}(?:[0-9a-f]{24})?';
const SHALLOW = new RegExp(`^shallow ${ID}$`);
const COMMAND = new RegExp(`^(${ID}) (${ID}) (refs/.*)$`, 's');

function isSha256(text: string): boolean {
  return text[40] !== ' ';
}

function commandOf(text: string): Command | string {
  const match = COMMAND.exec(text);
  if (match === null) return 'a command that is none';
  const [, old = '', id = '', ref = ''] = match;
  if (old.length !== id.length) return 'ids of two lengths';
  const why = refFault(ref);
  if (why !== undefined) return why;
  const from = orNone(old);
  const to = orNone(id);
  if (from === undefined && to === undefined) return 'a command that changes nothing';
  return { ref, old: from, new: to };
}

function orNone(id: string): string | undefined {
  return /^0+$/.test(id) ? undefined : id;
}

/** As `git check-ref-format`, and ASCII alone: other letters have several spellings. */
function refFault(ref: string): string | undefined {
  if (ref.length > MOST_REF_BYTES) return 'a ref with too long a name';
  const bad =
    !/^[!-~]+$/.test(ref) ||
    /[~^:?*[\\]|\.\.|@\{|\/\/|\/$|\.$/.test(ref) ||
    ref.split('/').some((part) => part.startsWith('.') || part.endsWith('.lock'));
  return bad ? 'a ref whose name git does not allow, or not ASCII' : undefined;
}

const CAPABILITY =
  /^(?:report-status(?:-v2)?|delete-refs|quiet|atomic|ofs-delta|side-band-64k|(?:agent|session-id)=[!-~]*)$/;

/** A capability that we do not know may change what the commands mean. */
function capabilityFault(text: string, command: string): string | undefined {
  const format = isSha256(command) ? 'sha256' : 'sha1';
  let named = 'sha1';
  for (const capability of text.split(' ')) {
    if (capability === '' || CAPABILITY.test(capability)) continue;
    const [, found] = /^object-format=(sha1|sha256)$/.exec(capability) ?? [];
    if (found !== undefined) named = found;
    else if (capability === 'push-options') return 'push options, which a server acts on';
    else return 'a capability that is not known';
  }
  return named === format ? undefined : 'ids of another format than it says';
}

function unread(reason: string): Unread {
  return { kind: 'unreadable', reason };
}
