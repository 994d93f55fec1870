// Every client of this host, as it is and without a flag, trusts the installation's authority
// inside: it fetches from an upstream that only the gateway knows how to verify. The control is the
// same client outside, which is told of no authority and says that it does not trust the upstream's.
// A client that the host does not have is a test of its own, skipped by name.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { AGENT_PATH } from '../../src/sandbox/command.ts';
import { verifies } from '../verifies.ts';
import { NODE, openPlace, type Place } from './place.ts';
import { type Arrival, startUpstream, type Upstream } from './upstreams.ts';

const HOST = 'api.example';
/** Words for a certificate that nobody here vouches for. */
const DISTRUST = /certificat|self.signed|issuer|PKIX|x509|verif|authority/i;

interface Client {
  readonly name: string;
  /** Programs that a PATH of the sandbox must have. */
  readonly needs: readonly string[];
  /** A command that succeeds only when the client has what the test wants of it. */
  readonly has?: readonly string[];
  readonly file?: readonly [name: string, text: string];
  /** `origin` is `api.example` or, outside, `localhost:PORT`. */
  readonly command: (origin: string) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What it prints when all is well; without it, its request's arrival tells. */
  readonly prints?: RegExp;
  /** What it asks for. */
  readonly path: string;
  readonly slowStart?: boolean;
  /** Found in the caller's home: the user of an agent may not reach it outside. */
  readonly ofCaller?: boolean;
}

const JAVA = `public class Fetch {
  public static void main(String[] args) throws Exception {
    var client = (java.net.HttpURLConnection) new java.net.URL(args[0]).openConnection();
    System.out.println(client.getResponseCode());
  }
}
`;
const GO = `package main

import ("fmt"; "net/http"; "os")

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	fmt.Println(answer.StatusCode)
}
`;
const PYTHON = (library: string, call: string): readonly string[] => [
  ...['/usr/bin/python3', '-c', `import sys, ${library}\nprint(${call})`],
];

/** What rustup, where there is one, starts in the place of cargo. */
const CARGO = toolchainCargo() ?? '/usr/bin/cargo';

const CLIENTS: readonly Client[] = [
  {
    name: 'curl',
    needs: ['curl'],
    command: (origin) => ['curl', '-sS', '-w', '%{http_code}', `https://${origin}/curl`],
    prints: /200$/,
    path: '/curl',
  },
  {
    name: 'wget',
    needs: ['wget'],
    command: (origin) => ['wget', '-t1', '-O-', `https://${origin}/wget`],
    prints: /^ok$/m,
    path: '/wget',
  },
  {
    name: 'git',
    needs: ['git'],
    command: (origin) => ['git', 'ls-remote', `https://${origin}/some.git`],
    path: '/some.git/info/refs?service=git-upload-pack',
  },
  {
    name: 'openssl s_client',
    needs: ['openssl', 'sh'],
    command: (origin) => [
      ...['sh', '-c'],
      'printf "GET /openssl HTTP/1.1\\r\\nHost: $1\\r\\nConnection: close\\r\\n\\r\\n" | openssl ' +
        's_client -verify_return_error -quiet -connect "$2" -servername "$3"',
      ...['openssl', origin, origin.includes(':') ? origin : `${origin}:443`],
      origin.replace(/:\d+$/, ''),
    ],
    prints: /^HTTP\/1.1 200/m,
    path: '/openssl',
  },
  {
    name: 'fetch of node',
    needs: [],
    command: (origin) => [
      ...[NODE, '-e'],
      'fetch(process.argv[1]).then(({ status }) => console.log(status))',
      `https://${origin}/fetch`,
    ],
    prints: /^200$/m,
    path: '/fetch',
  },
  {
    name: 'https of node',
    needs: [],
    command: (origin) => [
      ...[NODE, '-e'],
      'require("https").get(process.argv[1], (answer) => console.log(answer.resume().statusCode))',
      `https://${origin}/https`,
    ],
    prints: /^200$/m,
    path: '/https',
  },
  {
    name: 'urllib of python',
    needs: ['python3'],
    command: (origin) => [
      ...PYTHON('urllib.request', 'urllib.request.urlopen(sys.argv[1]).status'),
      `https://${origin}/urllib`,
    ],
    prints: /^200$/m,
    path: '/urllib',
  },
  {
    name: 'requests of python',
    needs: ['python3'],
    has: ['/usr/bin/python3', '-c', 'import requests'],
    command: (origin) => [
      ...PYTHON('requests', 'requests.get(sys.argv[1]).status_code'),
      `https://${origin}/requests`,
    ],
    prints: /^200$/m,
    path: '/requests',
  },
  {
    name: 'pip',
    needs: ['python3'],
    has: ['/usr/bin/python3', '-m', 'pip', '--version'],
    // It finds nothing to download, and has read the index to know.
    command: (origin) => [
      ...['/usr/bin/python3', '-m', 'pip', 'download', '--retries', '0', '--no-deps'],
      ...['--disable-pip-version-check', '--index-url', `https://${origin}/simple`, 'belay-probe'],
    ],
    path: '/simple/belay-probe/',
  },
  {
    name: 'LWP of perl',
    needs: ['perl'],
    has: ['perl', '-MLWP::Protocol::https', '-e', '1'],
    command: (origin) => [
      ...['perl', '-MLWP::UserAgent', '-e'],
      'my $got = LWP::UserAgent->new->get($ARGV[0]); print $got->code, "\\n", $got->content',
      `https://${origin}/lwp`,
    ],
    prints: /^200$/m,
    path: '/lwp',
  },
  {
    name: 'HTTP::Tiny of perl',
    needs: ['perl'],
    has: ['perl', '-MIO::Socket::SSL', '-MNet::SSLeay', '-e', '1'],
    command: (origin) => [
      ...['perl', '-MHTTP::Tiny', '-e'],
      'my $got = HTTP::Tiny->new(verify_SSL => 1)->get($ARGV[0]); print "$got->{status}\\n$got->{content}"',
      `https://${origin}/tiny`,
    ],
    prints: /^200$/m,
    path: '/tiny',
  },
  {
    name: 'java',
    needs: ['java', 'javac'],
    file: ['Fetch.java', JAVA],
    command: (origin) => [
      'java',
      '-XX:TieredStopAtLevel=1',
      'Fetch.java',
      `https://${origin}/java`,
    ],
    prints: /^200$/m,
    path: '/java',
    slowStart: true,
  },
  {
    name: 'go',
    needs: ['go'],
    file: ['fetch.go', GO],
    command: (origin) => ['go', 'run', 'fetch.go', `https://${origin}/go`],
    env: { GO111MODULE: 'off', GOCACHE: '/tmp/go-cache' },
    prints: /^200$/m,
    path: '/go',
    slowStart: true,
  },
  {
    name: "Go's library in terraform",
    needs: ['terraform', 'sh'],
    // It finds no provider, and has asked the host for its services to know.
    command: (origin) => [
      ...[
        'sh',
        '-c',
        'mkdir "$1"; printf "%s" "$2" > "$1/main.tf"; terraform -chdir="$1" init; rm -r "$1"',
      ],
      ...['terraform', `/tmp/belay-terraform-${process.pid}`],
      `terraform {\nrequired_providers {\nsome = { source = "${origin}/some/thing" }\n}\n}`,
    ],
    env: { CHECKPOINT_DISABLE: '1' },
    path: '/.well-known/terraform.json',
  },
  {
    name: 'cargo',
    needs: [],
    has: [CARGO, '--version'],
    ofCaller: true,
    command: (origin) => [
      ...[
        CARGO,
        '--config',
        'net.retry=0',
        'search',
        '--index',
        `sparse+https://${origin}/index/`,
        'belay-probe',
      ],
    ],
    path: '/index/config.json',
  },
  {
    name: 'ruby',
    needs: ['ruby'],
    command: (origin) => [
      ...['ruby', '-rnet/http', '-e', 'puts Net::HTTP.get_response(URI(ARGV[0])).code'],
      `https://${origin}/ruby`,
    ],
    prints: /^200$/m,
    path: '/ruby',
  },
  {
    name: 'php',
    needs: ['php'],
    command: (origin) => [
      ...['php', '-r', 'echo file_get_contents($argv[1]);', '--', `https://${origin}/php`],
    ],
    prints: /^ok$/m,
    path: '/php',
  },
  {
    name: 'deno',
    needs: ['deno'],
    command: (origin) => [
      'deno',
      'eval',
      `console.log((await fetch('https://${origin}/deno')).status)`,
    ],
    prints: /^200$/m,
    path: '/deno',
  },
  {
    name: 'bun',
    needs: ['bun'],
    command: (origin) => [
      'bun',
      '-e',
      `console.log((await fetch('https://${origin}/bun')).status)`,
    ],
    prints: /^200$/m,
    path: '/bun',
  },
];

/** Why this host cannot show it; undefined when it can. */
function absence({ name, needs, has }: Client): string | undefined {
  const missing = needs.find((program) => !isThere(program));
  if (missing !== undefined) return `no \`${missing}\` in ${AGENT_PATH} on this host`;
  if (has === undefined) return undefined;
  const [program = '', ...args] = has;
  const { status } = spawnSync(program, args, { timeout: 20_000, stdio: 'ignore' });
  return status === 0 ? undefined : `no ${name} on this host`;
}

function toolchainCargo(): string | undefined {
  const { stdout, status } = spawnSync('rustup', ['which', 'cargo'], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

function isThere(program: string): boolean {
  return AGENT_PATH.split(':').some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return realpathSync(join(folder, program)).startsWith('/usr/');
    } catch {
      return false; // not here, or not for everybody
    }
  });
}

let upstream: Upstream;
let place: Place;

beforeAll(async () => {
  upstream = await startUpstream([HOST, 'localhost']);
  place = await openPlace({ allow: [HOST], upstreams: { [HOST]: upstream } });
}, 60_000);

afterAll(async () => {
  await place?.[Symbol.asyncDispose]();
  await upstream?.[Symbol.asyncDispose]();
}, 60_000);

const arrived = (path: string): readonly Arrival[] =>
  upstream.arrivals.filter(({ url }) => url === path);

for (const client of CLIENTS) {
  const { name, file, command, env = {}, prints, path, slowStart, ofCaller } = client;
  verifies(
    'ca.trust',
    `${name} trusts the installation's authority inside, and no upstream's outside`,
    async () => {
      if (file !== undefined) place.put(...file);
      upstream.arrivals.length = 0;
      const timeoutMs = slowStart ? 60_000 : 20_000;
      const variables = Object.entries(env).map(([key, value]) => `${key}=${value}`);
      const inEnv = variables.length === 0 ? [] : ['/usr/bin/env', ...variables];

      const inside = await place.run([], [...inEnv, ...command(HOST)], { timeoutMs });
      expect(inside.timedOut, inside.stderr).toBe(false);
      expect(inside.summary?.denials, inside.stderr).toBe(0);
      expect(arrived(path).length, `${inside.stdout}\n${inside.stderr}`).toBeGreaterThan(0);
      if (prints !== undefined) expect(inside.stdout).toMatch(prints);

      upstream.arrivals.length = 0;
      const { port } = new URL(`tcp://${upstream.address}`);
      const argv = [...inEnv, ...command(`localhost:${port}`)];
      const outside = await (ofCaller ? place.session.exec : place.outside)(argv, { timeoutMs });
      expect(arrived(path), 'outside').toEqual([]);
      expect(`${outside.stdout}\n${outside.stderr}`).toMatch(DISTRUST);
    },
    { timeoutMs: 90_000, skip: absence(client) },
  );
}

verifies(
  'ca.trust',
  "java's own tool lists the authority in the store of the system",
  async () => {
    const list = ['keytool', '-list', '-cacerts', '-storepass', 'changeit'];
    const inside = await place.run([], list, { timeoutMs: 30_000 });
    expect(inside.stdout, inside.stderr).toMatch(/^belay, .*trustedCertEntry/m);
    const outside = await place.outside(list, { timeoutMs: 30_000 });
    expect(outside.stdout).not.toMatch(/^belay, /m);
  },
  { timeoutMs: 60_000, skip: isThere('keytool') ? undefined : 'no `keytool` on this host' },
);
