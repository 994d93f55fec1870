// Which variables a credential helper gets: none that leads to what an agent can write.

import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { askHelper } from '../../../src/config/helper.ts';
import { verifies } from '../../verifies.ts';

verifies('vault.exec', 'a path behind an option or in quotes does not reach a helper', () => {
  const work = realpathSync(mkdtempSync(join(tmpdir(), 'belay helper-')));
  try {
    const inward = {
      RUBYOPT: `-I${work}/lib`,
      PERL5OPT: `-Mstrict -I${work}/lib`,
      NODE_OPTIONS: `--require "${work}/x.js"`,
      LESSOPEN: `|${work}/open %s`,
      JAVA_TOOL_OPTIONS: `-javaagent:${work}/agent.jar`,
      PYTHONPATH: `/usr/lib/python:${work}`,
    };
    const outward = {
      HOME: work,
      LANG: 'C',
      GIT_SSL_CAINFO: '/etc/ssl/certs/ca-certificates.crt',
      OP_CONNECT_HOST: 'https://vault.example/v1',
    };
    const asked = (name: string) => {
      const args = ['-c', `printf %s "\${${name}-none}"`];
      const env = { PATH: '/usr/bin:/bin', ...inward, ...outward };
      return askHelper({ kind: 'exec', program: 'sh', args }, env, [work]);
    };
    for (const name of Object.keys(inward)) {
      expect(asked(name), name).toEqual({ kind: 'said', text: 'none' });
    }
    for (const [name, text] of Object.entries(outward)) {
      expect(asked(name), name).toEqual({ kind: 'said', text });
    }
  } finally {
    rmSync(work, { recursive: true });
  }
});
