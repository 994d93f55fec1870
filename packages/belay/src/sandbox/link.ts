// The link between the agent's network namespace and the bridge's: a veth pair, and nftables rules
// that hand every TCP connection, whatever its address and port, to the bridge's one transparent
// listener, and DNS to any server to the bridge's own. Everything else is refused. Both namespaces
// belong to the bridge's user namespace, so none of this needs root, and the agent, which lives in
// a child of it, has no power over the link. `ip link del BRIDGE_INTERFACE` cuts it for good.

import { spawn } from 'node:child_process';
import { BelayError } from '../core/errors.ts';

const BRIDGE_INTERFACE = 'v0';
const AGENT_INTERFACE = 'eth0';
/** RFC 7335's prefix: nothing on the internet has these addresses. */
export const BRIDGE_ADDRESS = '192.0.0.1';
const AGENT_ADDRESS = '192.0.0.2';
const BRIDGE_ADDRESS6 = 'fd00:be1a::1';
const AGENT_ADDRESS6 = 'fd00:be1a::2';
/** Where the transparent listener is bound; the agent cannot tell it from any other port. */
export const LISTENER_PORT = 15001;
const MARK = 1;
const ROUTES = 100;

const bridgeSide = (agentNetPid: number): string => `
link set lo up
link add ${BRIDGE_INTERFACE} type veth peer name ${AGENT_INTERFACE} netns ${agentNetPid}
addr add ${BRIDGE_ADDRESS}/30 dev ${BRIDGE_INTERFACE}
addr add ${BRIDGE_ADDRESS6}/64 dev ${BRIDGE_INTERFACE} nodad
link set ${BRIDGE_INTERFACE} up
rule add fwmark ${MARK} lookup ${ROUTES}
route add local 0.0.0.0/0 dev lo table ${ROUTES}
route add local ::/0 dev lo table ${ROUTES}
`;

const AGENT_SIDE = `
link set lo up
addr add ${AGENT_ADDRESS}/30 dev ${AGENT_INTERFACE}
addr add ${AGENT_ADDRESS6}/64 dev ${AGENT_INTERFACE} nodad
link set ${AGENT_INTERFACE} up
route add default via ${BRIDGE_ADDRESS}
route add default via ${BRIDGE_ADDRESS6}
`;

// INVARIANT: I1: what no rule names is dropped; nothing is ever forwarded.
export const LINK_RULES = `
table inet belay {
  chain arriving {
    type filter hook prerouting priority mangle; policy drop;
    iifname "lo" accept
    iifname "${BRIDGE_INTERFACE}" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname "${BRIDGE_INTERFACE}" udp dport 53 accept
    iifname "${BRIDGE_INTERFACE}" meta nfproto ipv4 meta l4proto tcp tproxy ip to :${LISTENER_PORT} meta mark set ${MARK} accept
    iifname "${BRIDGE_INTERFACE}" meta nfproto ipv6 meta l4proto tcp tproxy ip6 to :${LISTENER_PORT} meta mark set ${MARK} accept
    iifname "${BRIDGE_INTERFACE}" meta l4proto udp reject
  }
  chain names {
    type nat hook prerouting priority dstnat;
    iifname "${BRIDGE_INTERFACE}" udp dport 53 redirect to :53
  }
  chain forwarding {
    type filter hook forward priority filter; policy drop;
  }
}
`;

/** Builds the link from inside the bridge's namespace. Throws ERR_SANDBOX with the tool's words. */
export async function buildLink(agentNetPid: number): Promise<void> {
  await Promise.all([
    feed(['ip', '-batch', '-'], bridgeSide(agentNetPid)),
    // A batch has no word for a rule's family.
    feed(['ip', '-6', 'rule', 'add', 'fwmark', String(MARK), 'lookup', String(ROUTES)], ''),
    feed(['nft', '-f', '-'], LINK_RULES),
  ]);
  await feed(['nsenter', '-t', String(agentNetPid), '--net', 'ip', '-batch', '-'], AGENT_SIDE);
}

function feed(argv: readonly string[], input: string): Promise<void> {
  const [program = '', ...rest] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, rest, { stdio: ['pipe', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      if (said.length < 4096) said += chunk.toString('utf8');
    });
    child.on('error', (error) =>
      reject(new BelayError('ERR_SANDBOX', `${program}: ${error.message}`, { cause: error })),
    );
    child.on('close', (status) => {
      if (status === 0) resolve();
      else
        reject(new BelayError('ERR_SANDBOX', `${program}: ${said.trim() || `status ${status}`}`));
    });
    child.stdin.on('error', () => {}); // a tool that ended early: its status says why
    child.stdin.end(input);
  });
}
