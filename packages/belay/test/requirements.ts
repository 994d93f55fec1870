// The manifest: what Belay promises, one line a promise. Tests cite these ids through `verifies()`;
// a test about the tests fails when a requirement that is not planned has none, or when a test
// cites an id that is not here. `npm run requirements` prints the table.

export interface Requirement {
  /** What a user can rely on, as a sentence. */
  readonly behaviour: string;
  /** Not built yet. */
  readonly planned?: true;
}

export const requirements = {
  // repository
  'repo.imports-down': { behaviour: 'an upward import or a cycle fails the check' },
  'repo.one-door': {
    behaviour: 'a module outside upstream/ that can open an outgoing connection fails the check',
  },
  'repo.pure-core': { behaviour: 'core/ touches no clock, no process and no I/O' },
  'repo.requirements': { behaviour: 'the manifest and the tests cannot drift apart' },
  'repo.host-setup': {
    behaviour: 'host-setup installs as root, asks before sudo, else prints the line and exits 69',
  },
  'repo.launcher': { behaviour: 'an old Node gets one clear line and exit 69' },
  'repo.packed': { behaviour: 'the packed tarball installs into an empty folder and runs' },

  // core
  'core.canonical': { behaviour: 'canonical JSON follows RFC 8785' },
  'core.host': { behaviour: 'a host name has one parse and one meaning' },
  'core.ids': { behaviour: 'ids sort by time and run names are typable' },

  // ledger
  'log.before-effect': { behaviour: 'no upstream byte before its intent is durable (I2)' },
  'log.no-lost-ack': { behaviour: 'an acknowledged entry survives SIGKILL at any moment' },
  'log.torn-tail': { behaviour: 'a torn last frame is cut off and the cut is recorded' },
  'log.outcome-unknown': {
    behaviour: 'an intent without an outcome after a crash becomes outcome.unknown',
  },
  'log.fsync-fails-once': {
    behaviour: 'after the first failed sync nothing is acknowledged or allowed again',
  },
  'log.full-disk': { behaviour: 'a full disk denies calls with one clear message' },
  'log.overload': {
    behaviour: 'under overload new effects are refused, and no other entry is lost',
  },
  'log.run-seq': { behaviour: 'the entries of a run are numbered without a gap' },
  'log.group-commit': { behaviour: 'entries that queue together share one durable write' },
  'log.verify': { behaviour: '`belay log verify` finds a changed, lost or repeated entry' },
  'log.newer-format': { behaviour: 'a ledger of a newer version is refused' },
  'log.denials': { behaviour: 'a denial is an entry and holds what the agent was told' },
  'log.no-secrets': { behaviour: 'no credential value is ever in the ledger' },

  // monitor
  'monitor.steps': { behaviour: 'a call passes the ten steps in their order' },
  'monitor.stop-again': {
    behaviour:
      'a stop that lands before the first byte is sent keeps the call from leaving, later it breaks it off (I4)',
  },
  'monitor.default-deny': { behaviour: 'what no policy permits is denied' },
  'shadow.writes-refused': {
    behaviour:
      'in shadow mode reads pass and writes get an ordinary 403 that names the review (I6)',
  },
  'budget.never-over': { behaviour: 'settled plus reserved never exceeds a cap (I3)' },
  'budget.calls': { behaviour: 'a run makes at most its cap of calls' },
  'budget.bytes': { behaviour: 'a run moves at most its cap of bytes, also in streams' },
  'budget.denials': {
    behaviour: 'a run that is refused more often than its cap is stopped, and writes no more',
  },
  'policy.context': {
    behaviour: 'a policy can ask for the type of a body, and what the run was permitted before',
  },
  'policy.route': {
    behaviour: 'a policy can speak of a declared route, by its name or by the template of its path',
  },
  'policy.fields': {
    behaviour:
      'a policy can ask for declared members of a body; one that has them otherwise is denied',
  },
  'policy.taint': {
    behaviour:
      'what a run was permitted to read taints it, its parent and its sub-runs for policies',
  },
  'identity.grant-expiry': { behaviour: 'an expired grant permits nothing' },
  'identity.under-review': { behaviour: 'a grant under review permits nothing live' },
  'identity.expiry-mid-stream': {
    behaviour: 'what is open when a grant expires is cut, and its outcome says why',
  },
  'identity.attenuate': {
    behaviour: "a sub-run does nothing that its parent may not, and what it does is the parent's",
  },
  'identity.sub-run-end': {
    behaviour: 'a sub-run ends with its parent, at the latest when its grant does, and is not deep',
  },
  'identity.stolen-token': {
    behaviour:
      'a token is good for its run, at its listener, from outside any sandbox, and no more',
  },
  'identity.two-environments': {
    behaviour: 'two environments share no credential, connection, answer of the resolver or run',
  },
  'vault.injected': {
    behaviour: 'the real key is injected on its environment, host, port, method and path only',
  },
  'vault.placeholder': {
    behaviour:
      'a placeholder stays for its agent, environment and workspace, and is another elsewhere',
  },
  'vault.never-inside': { behaviour: 'the real key is nowhere inside the sandbox (I5)' },
  'vault.cross-host': {
    behaviour: 'a placeholder at another host or in another place is never replaced, and denied',
  },
  'vault.cross-env': { behaviour: 'a placeholder of another environment is denied' },
  'vault.places': {
    behaviour: 'a credential is injected as a header, a key of the query or a password of Basic',
  },
  'vault.field': {
    behaviour:
      'a credential is put into a member of a body, where its placeholder is the whole of it',
  },
  'vault.minted': {
    behaviour:
      'tokens that an endpoint answers with stay in the vault, and go to the hosts declared for them',
  },
  'vault.undeclared-token': {
    behaviour: 'an answer that holds a token nobody declared is not passed on, and others are',
  },
  'login.placeholder': {
    behaviour:
      'an agent whose user is signed in finds a file of the same shape with placeholders; the tokens stay outside',
  },
  'login.granted': {
    behaviour:
      'a login is used where the grant allows its host and nothing else is configured for it, and no agent renews or replaces it',
  },
  'login.renewed': {
    behaviour: 'a login that ends is renewed once for all runs, on the record, and written back',
  },
  'login.kept': {
    behaviour:
      'no refresh token is lost or spent twice: not by a crash, not beside the user’s own agent',
  },
  'login.bad-file': { behaviour: 'a login file that cannot be used is one clear line' },
  'vault.body-schema': {
    behaviour: 'a credential that is bound to a schema of the body is used with no other body',
  },
  'vault.canary-plain': {
    behaviour: 'a value that an upstream sends back is starred out of fields, bodies and trailers',
  },
  'vault.canary-encoded': {
    behaviour:
      'a value that comes back in JSON, HTML, a URL, a form, hexadecimal or base64 is starred out',
  },
  'vault.canary-split': {
    behaviour: 'a value that comes back in parts is starred out, and nothing else waits',
  },
  'vault.canary-overlap': {
    behaviour: 'values that begin alike or overlap are starred out as a whole',
  },
  'vault.canary-cost': {
    behaviour: 'looking for values takes time that is linear in the answer, whatever was minted',
  },
  'vault.canary-compressed': {
    behaviour: 'an answer that could hold a value is asked for without a coding, and decoded',
  },
  'vault.canary-records': {
    behaviour: 'no value is in the ledger, a log, a message or a file of the installation',
  },
  'vault.exec': {
    behaviour:
      'a credential helper is asked outside, once, is nothing that an agent can write, and its failure is one clear line',
  },

  // policy and config
  'policy.default-deny': { behaviour: 'an empty policy set denies everything' },
  'policy.errors': { behaviour: 'a broken policy is refused with file, line and hint' },
  'policy.allow': { behaviour: '`--allow HOST` and `--allow PRESET` permit exactly that' },
  'policy.cache': { behaviour: 'a cached decision equals an uncached one' },
  'policy.hold': { behaviour: 'a call that only an @approval policy permits is held, so denied' },
  'policy.suggest': {
    behaviour: '`belay policy suggest --from RUN` prints the least that would have let it pass',
  },
  'policy.explain': { behaviour: '`belay policy explain` names the deciding policy' },
  'policy.test': { behaviour: '`belay policy test` runs cases and fails on a surprise' },

  // git over HTTP
  'git.push-agent': {
    behaviour:
      'clone, fetch and push to `agent/*` pass; the ledger has repository, ref, old and new commit',
  },
  'git.push-main': { behaviour: 'a push outside `agent/*` is denied unless it is granted' },
  'git.force-push': {
    behaviour: 'a push that is not shown to be a fast-forward is denied unless it is granted',
  },
  'git.delete-ref': { behaviour: 'a push that deletes a ref is denied unless it is granted' },
  'git.every-ref': { behaviour: 'each ref of a push is judged, and it passes whole or not at all' },
  'git.ancestry': {
    behaviour: 'only commits that are sent, by their hashes, show that a push is a fast-forward',
  },
  'git.unreadable': {
    behaviour: 'what a server might take for a push, and what is not read as one, is denied',
  },
  'git.push-bounds': {
    behaviour: 'pushes that are read before they are judged stay within bounds, and are recorded',
  },
  'git.remotes': {
    behaviour: '`git@HOST:` and `ssh://git@HOST/` remotes are reached by HTTPS in the sandbox',
  },
  'git.preset': {
    behaviour:
      '`github-write-branch` permits pushes to `agent/*` and pull requests, no other write',
  },

  'config.errors': { behaviour: 'a broken or unknown key is refused with file, line and hint' },
  'config.secret-unreadable': { behaviour: 'an unreadable secret is one clear message' },

  // gateway and upstream
  'gw.intercept': { behaviour: 'TLS inside is answered by the installation CA, upstream verified' },
  'gw.idle-memory': {
    behaviour: 'an idle intercepted connection keeps no more of its handshake than it has to',
  },
  'gw.streaming': { behaviour: 'large bodies stream both ways in flat memory' },
  'gw.proxy-407': { behaviour: 'the explicit proxy asks for credentials with 407' },
  'gw.denied-model': {
    behaviour: "a refused model call is told once, with 400, in its provider's words",
  },
  'gw.deny-inside-tls': { behaviour: 'a denied host is told 403 inside finished TLS' },
  'gw.ssrf': {
    behaviour:
      "loopback, private, link-local, metadata and the host's own addresses are refused unless declared",
  },
  'gw.pinned-address': { behaviour: 'the address that was checked is the address that is dialled' },
  'gw.abort-during-commit': {
    behaviour: 'a client that leaves while its intent is written leaves nothing behind',
  },
  'gw.one-at-a-time': {
    behaviour: 'a connection has one call in progress; a bounded number wait behind it',
  },
  'gw.dead-upstream': { behaviour: 'a dead upstream is a 502 with one clear reason' },
  'gw.bad-certificate': { behaviour: 'an upstream whose certificate does not verify is refused' },

  'gw.smuggling': {
    behaviour: 'a request whose length has two readings reaches no upstream',
  },
  'gw.bare-lf': { behaviour: 'lines that end in anything but CR LF are refused' },
  'gw.obs-fold': { behaviour: 'a folded field is refused' },
  'gw.duplicate-field': {
    behaviour: 'a field that has one value and comes twice is refused',
  },
  'gw.oversize-head': { behaviour: 'a head over 16 KiB is refused' },
  'gw.nul-host': { behaviour: 'a NUL in a host is refused' },
  'gw.percent-host': { behaviour: 'a percent escape in a host is refused' },
  'gw.trailing-dot': { behaviour: 'a host with a trailing dot is refused' },
  'gw.look-alike': {
    behaviour: 'a host in letters that look like others is another host',
  },
  'gw.odd-ipv4': {
    behaviour: 'an octal, hexadecimal or short IPv4 address is refused',
  },
  'gw.mapped-ipv6': { behaviour: 'an IPv4 address inside an IPv6 one is refused' },
  'gw.nat64': { behaviour: 'a NAT64 address is refused' },
  'gw.zone-id': { behaviour: 'an IPv6 zone is refused' },
  'gw.sni': { behaviour: 'a TLS name that is not the destination is refused' },
  'gw.connect-host': { behaviour: 'behind CONNECT only its own host can be asked' },
  'gw.host-field': {
    behaviour: 'a host field that is not the destination is refused',
  },
  'gw.absolute-uri': {
    behaviour: 'an absolute target that is not the destination is refused',
  },
  'gw.domain-fronting': {
    behaviour: 'one host in TLS and another in HTTP is refused',
  },
  'gw.dot-segments': {
    behaviour: 'a path with dot segments, plain, escaped or before a parameter, is refused',
  },
  'gw.encoded-slash': {
    behaviour: 'a path with a slash that is not one to everybody is refused',
  },
  'gw.method-override': {
    behaviour: 'a field that names another method, for some with `_` for `-`, is refused',
  },
  'gw.forwarded': {
    behaviour: 'a field that speaks for a proxy, for some with `_` for `-`, is refused',
  },
  'gw.h2c': { behaviour: 'an upgrade to HTTP/2 is refused' },
  'gw.http2': {
    behaviour: 'a client that insists on HTTP/2 hears so in its own words',
  },
  'gw.trace': { behaviour: 'TRACE, and CONNECT inside a connection, are refused' },
  'gw.second-host': {
    behaviour: 'a connection serves one host, on its later requests too',
  },
  'gw.redirect': { behaviour: 'a redirect is passed on and never followed' },
  'gw.rebinding': {
    behaviour: 'a name that changes its address between check and use is refused',
  },
  'gw.response-splitting': {
    behaviour: 'an upstream cannot put a second answer behind its first',
  },
  'gw.trailers': {
    behaviour: 'trailers of an answer pass; a request that has some is refused',
  },
  'gw.continue': {
    behaviour: 'a client that waits for 100 is told to go on before its call',
  },
  'gw.early-response': {
    behaviour: 'an answer that comes before the body was read passes',
  },
  'gw.sse': { behaviour: 'each event of a stream passes as it comes' },
  'gw.websocket': {
    behaviour: 'a WebSocket is one call, metered and stopped like any other',
  },
  'gw.pass-through': {
    behaviour: 'a declared host keeps its own TLS, and the ledger says so',
  },
  'gw.tcp': {
    behaviour: 'raw TCP passes where a grant names host and port, and nowhere else',
  },
  'gw.ca-import': {
    behaviour: 'an imported root is trusted upstream, is recorded, and can go',
  },
  'gw.abort-while-queued': {
    behaviour: 'a client that leaves while its call waits is not sent',
  },
  'gw.slow-client': {
    behaviour: 'a client that reads slowly holds the upstream back',
  },
  'gw.slow-upstream': {
    behaviour: 'an upstream that reads slowly holds the client back',
  },
  'gw.denial-storm': {
    behaviour: 'refusals in quick succession are answered later and later, and then pause the run',
  },
  'gw.leak': {
    behaviour: 'after thousands of mixed connections nothing is left behind',
  },
  'gw.differential': {
    behaviour: 'ordinary requests and answers are those without Belay, but for what is hop-by-hop',
  },

  // processes
  'daemon.shared': { behaviour: 'two runs at once share one daemon, one ledger and the caps' },
  'daemon.second-refused': { behaviour: 'a second daemon on one home is refused' },
  'daemon.race': {
    behaviour: 'launchers that start at once, or while a daemon leaves, find one daemon',
  },
  'daemon.leaves': { behaviour: 'a daemon that a run started leaves after the last run' },
  'daemon.port-in-use': { behaviour: 'a proxy port that is taken is one clear line and exit 69' },
  'daemon.down': {
    behaviour: '`belay down` ends every run, each with its closing entry and summary',
  },
  'daemon.restart': { behaviour: 'a daemon restarts on the same ledger after SIGKILL' },
  'home.no-links': {
    behaviour:
      "root follows no link that the daemon's user could have made, and obeys no path of its",
  },
  'guard.sigstop': {
    behaviour: 'with the daemon stopped the agents freeze within 700 ms, and thaw with it',
  },
  'guard.ended-frozen': {
    behaviour:
      'a run that ends at the moment in which it is frozen has ended, and its launcher says so',
  },
  'guard.daemon-killed': {
    behaviour: 'with the daemon dead the run is cut and frozen for good, and the launcher says so',
  },
  'guard.guard-killed': {
    behaviour: 'with the guard dead every call is denied until a new one has acknowledged',
  },
  'guard.no-false-freeze': { behaviour: 'two CPU hogs cause no false freeze' },
  'guard.kill-without-daemon': { behaviour: '`belay kill RUN` works with no daemon' },
  'run.status': { behaviour: 'the status of the wrapped command passes through' },
  'run.summary': {
    behaviour: 'a run ends with calls, denials and the lines that would allow them',
  },
  'run.ctrl-c': { behaviour: 'Ctrl-C at any moment leaves no process and no open run behind' },
  'run.kill': { behaviour: '`belay kill` ends a run, its processes and its connections' },
  'run.bad-workspace': { behaviour: 'a read-only or symlinked workspace is handled with one line' },
  'run.external': {
    behaviour:
      'an agent outside a sandbox is governed through the proxy, and nobody is left to think it contained',
  },
  'cli.inert': {
    behaviour:
      'no text of an agent moves, colours or turns round what a terminal shows, as JSON neither',
  },
  'host.no-bwrap': { behaviour: 'without bubblewrap: exit 69 and the line to type' },
  'host.no-userns': { behaviour: 'without user namespaces: exit 69 and the reason' },
  'tty.agent': {
    behaviour: "an agent's full screen is drawn, typed into and left through the sandbox",
  },
  'tty.resize': {
    behaviour: 'an interactive agent sees its terminal being resized',
  },
  'tty.interrupt': {
    behaviour: 'Ctrl-C reaches an interactive agent and Ctrl-Z suspends the run',
  },

  // containment
  'env.inherit': { behaviour: 'no variable of the caller reaches the agent' },
  'proc.environ-scan': { behaviour: 'no environment of an outside process is readable' },
  'proc.mem-victim': { behaviour: 'no memory of an outside process is readable' },
  'ptrace.attach': { behaviour: 'no outside process can be traced' },
  'unix.docker-sock': { behaviour: 'no unix socket of the host is reachable' },
  'net.host-loopback-v4': { behaviour: "the host's loopback is not reachable" },
  'net.imds': { behaviour: 'the metadata address is denied and in the ledger' },
  'net.noproxy-env': { behaviour: 'a program that ignores proxies is denied and in the ledger' },
  'net.odd-port': { behaviour: 'any port is seen with its number, denied and in the ledger' },
  'net.own-loopback': { behaviour: "the agent's own servers work on any port of its loopback" },
  'net.bridge-dead-closed': { behaviour: 'with the bridge dead nothing connects' },
  'net.dns': { behaviour: 'every name resolves to a fake address and other UDP is refused' },
  'uid0-not-mapped': { behaviour: 'uid 0 does not exist inside' },
  'fsw.git-hooks': { behaviour: 'git hooks and agent configuration cannot be written' },
  'fsw.own-policy': {
    behaviour:
      'an agent can write nothing that says what its next run may do or whom it trusts (I10)',
  },
  'fsr.secret-file': {
    behaviour: 'a file that a credential comes from appears empty inside and cannot be replaced',
  },
  'lim.forkbomb': {
    behaviour: 'a fork bomb stops at the limit of its run',
  },
  'lim.memory': {
    behaviour:
      'a process that takes more memory than its limit is refused or killed; with a cgroup the run as a whole',
  },
  'fsw.set-uid': { behaviour: 'no set-uid or set-gid file can be made' },

  // containment, the rest
  'proc.pid1-cmdline-clean': {
    behaviour: 'the first process inside shows no path, token or argument of the sandbox',
  },
  'proc.cmdline-masked': {
    behaviour: "the host's kernel command line is not readable",
  },
  'ptrace.process-vm-readv': {
    behaviour: 'no memory of an outside process is readable through process_vm_readv',
  },
  'ptrace.pidfd-getfd': {
    behaviour: 'no descriptor of an outside process can be taken',
  },
  'key.user-keyring': { behaviour: "no key of the user's keyring is reachable" },
  'ipc.sysv-shm': {
    behaviour: 'no System V shared memory of the host is reachable',
  },
  'ipc.posix-shm': { behaviour: 'no POSIX shared memory of the host is reachable' },
  'fd.inherited': {
    behaviour: 'no descriptor of the launcher reaches the agent but its three',
  },
  'unix.ssh-agent': { behaviour: 'no ssh agent of the user is reachable' },
  'unix.workspace': {
    behaviour: 'a socket or pipe in the workspace leads to no process of the host',
  },
  'unix.abstract': { behaviour: 'no abstract unix socket of the host is reachable' },
  'net.host-loopback-v6': { behaviour: "the host's IPv6 loopback is not reachable" },
  'net.udp53-any': {
    behaviour: 'a name server of the agent’s own choice is never reached',
  },
  'net.dns-tunnel': {
    behaviour: 'a name that carries data goes no further than the bridge, and is in the ledger',
  },
  'net.quic': { behaviour: 'UDP to port 443 is refused' },
  'net.ipv6': {
    behaviour: 'an IPv6 destination is denied and in the ledger like any other',
  },
  'net.raw': { behaviour: 'no raw socket can be made' },
  'net.packet': { behaviour: 'no packet socket can be made' },
  'net.vsock': { behaviour: 'no vsock socket can be made' },
  'net.child-netns': {
    behaviour: 'no further network namespace can be made or entered',
  },
  'net.launcher-killed-closed': {
    behaviour: 'with the launcher dead nothing connects',
  },
  'sys.userns': { behaviour: 'no user namespace can be made' },
  'sys.clone3': { behaviour: 'clone3 cannot be used to pass the filter' },
  'sys.mount': { behaviour: 'nothing can be mounted' },
  'sys.io-uring': { behaviour: 'io_uring is refused' },
  'sys.bpf': { behaviour: 'bpf is refused' },
  'sys.userfaultfd': { behaviour: 'userfaultfd is refused' },
  'sys.int80': { behaviour: 'a 32-bit system call ends the process' },
  'sys.x32': { behaviour: 'an x32 system call ends the process' },
  'sys.tiocsti': { behaviour: 'nothing can be typed into the terminal' },
  'kfile.core-pattern': {
    behaviour: 'the core pattern of the kernel cannot be written',
  },
  'kfile.release-agent': {
    behaviour: 'no release agent of a cgroup can be written',
  },
  'kfile.cgroup-procs': { behaviour: 'no process can be moved to another cgroup' },
  'dev.kvm': { behaviour: '/dev/kvm is not there' },
  'dev.tun': { behaviour: '/dev/net/tun is not there' },
  'fsr.home-creds': {
    behaviour: 'no credential in the home of the user is readable',
  },
  'fsr.dotenv': {
    behaviour: 'a .env file shows names and placeholders, never a value',
  },
  'fsw.git-rename': {
    behaviour: 'a folder above a protected name cannot be renamed',
  },
  'fsw.nested-git': {
    behaviour: 'hooks and settings of every repository below the workspace are protected',
  },
  'fsw.worktrees': {
    behaviour: 'the settings that git uses in a worktree elsewhere on the host cannot be replaced',
  },
  'fsw.missing-config': {
    behaviour: 'a protected name that does not exist cannot be made',
  },
  'fsw.agent-config': {
    behaviour: 'no configuration of an agent, editor or package manager can be written',
  },
  'fsw.symlink-out': {
    behaviour: 'a symbolic link leads to nothing outside the workspace',
  },
  'fsw.symlink-swap-race': {
    behaviour: 'a link that is swapped while the sandbox is built leads nowhere else',
  },
  'fsw.mask-lost': {
    behaviour: 'a mask that a program outside takes away is made again and told, or the run ends',
  },
  'fsw.exchanged': {
    behaviour: 'a path that was exchanged after its user named it is not opened to an agent',
  },
  'fsw.hardlink': {
    behaviour: 'no file outside the workspace can be linked into it',
  },
  'fsw.placeholder-cleanup': {
    behaviour: 'no placeholder stays on the host, whoever was killed',
  },
  'fsw.changes': {
    behaviour: 'a run ends with a list of what it changed that the host would execute',
  },
  'fsw.new-repository': {
    behaviour: 'a repository that a run makes is told at its end, with what it means',
  },
  'fsw.allow-paths': {
    behaviour: '`--allow-read` and `--allow-write` open exactly that path, and are recorded',
  },
  'kill.setsid-double-fork': {
    behaviour: 'a kill reaches what left its session and its parent',
  },
  'kill.launcher-sigkill': { behaviour: 'nothing of a run outlives its launcher' },
  'fuzz.kept': {
    behaviour: 'what a fuzzer finds, or what throws, is kept in its corpus and told with its seed',
  },
  'fuzz.dns': { behaviour: 'no packet has two readings at the DNS of a bridge, and none ends it' },
  'fuzz.git': { behaviour: 'no body is one push to the gateway and another to git' },
  'fuzz.hello': { behaviour: 'no hello of TLS names one host to us and another to OpenSSL' },
  'fuzz.http': {
    behaviour: 'no bytes of an agent are one request to the gateway and another to its upstream',
  },
  'bridge.fuzz': { behaviour: 'no bytes of an agent end its bridge' },
  'ca.trust': {
    behaviour: 'every client inside trusts the authority of the installation',
  },
  'run.publish': {
    behaviour:
      'a published port of the agent is reached on the loopback of the host, and is recorded',
  },
  'host.causes': {
    behaviour:
      'each known reason why a host refuses a sandbox is told apart, with the line to type',
  },
  'probe.refuses': {
    behaviour: 'a run whose sandbox does not hold is refused before its agent starts',
  },
  'probe.certificate': { behaviour: 'what the probe found is a signed entry' },
  'run.honest-work': {
    behaviour: 'git, npm, pip, make and a dev server work inside as outside',
  },

  // the whole
  'demo.story': {
    behaviour: 'the demo shows every scene and ends with the table and the report',
  },
  'agent.more': { behaviour: 'opencode, pi and Gemini CLI work through every layer' },
  'agent.nested': {
    behaviour:
      'a program that builds a sandbox of its own is refused with the reason and what helps',
  },
  'agent.home': {
    behaviour: 'what a run leaves in its home reaches no run of another workspace or environment',
  },
  'agent.profile': {
    behaviour: 'a known agent starts with its own sandbox and updater off, and its plain settings',
  },
  'agent.codex': { behaviour: 'unmodified Codex works through every layer' },
  'agent.login': {
    behaviour: 'unmodified Claude Code and Codex, signed in on the host, work in the sandbox',
  },
  'agent.claude': { behaviour: 'unmodified Claude Code works through every layer' },
} as const satisfies Record<string, Requirement>;

export type RequirementId = keyof typeof requirements;
