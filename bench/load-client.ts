// The conductor's end of a load generator: one job at a time, in bounded time. It takes the processor
// time of the peer, and of what shares the load generator's core, over the same span.

import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Counted, Job, Line } from './load.ts';
import { cpuNs } from './processes.ts';

export interface Measured extends Counted {
  readonly peerCpuNs: number;
  /** Everything on the load generator's core, the bridge included. */
  readonly loadCpuNs: number;
  readonly bridgeCpuNs: number;
}

/** Process ids. */
export interface Watched {
  readonly peer: readonly number[];
  readonly load: readonly number[];
  readonly bridge: readonly number[];
}

export interface LoadClient {
  measure(job: Job, watched: Watched): Promise<Measured>;
}

const EXTRA_MS = 25_000;
/** As the load generator has it. */
const OPEN_ONE_MS = 15;

export function loadClient(child: ChildProcess): LoadClient {
  if (child.stdout === null || child.stdin === null) throw new TypeError('no pipes');
  const { stdin } = child;
  stdin.on('error', () => {}); // the exit says more
  let hear: (line: Line) => void = () => {};
  createInterface({ input: child.stdout }).on('line', (text) => hear(JSON.parse(text) as Line));

  return {
    async measure(job, { peer, load, bridge }) {
      const spent = () => [cpuNs(peer), cpuNs(load), cpuNs(bridge)] as const;
      const heard = Promise.withResolvers<Measured>();
      const timer = setTimeout(
        () => heard.reject(new Error('the load generator says nothing')),
        job.warmMs + job.measureMs + EXTRA_MS + job.connections * OPEN_ONE_MS,
      );
      const onExit = (): void => heard.reject(new Error('the load generator ended'));
      child.once('exit', onExit);
      let before = spent();
      hear = (line) => {
        switch (line.kind) {
          case 'begin':
            before = spent();
            break;
          case 'counted': {
            const after = spent();
            heard.resolve({
              ...line.counted,
              peerCpuNs: after[0] - before[0],
              loadCpuNs: after[1] - before[1],
              bridgeCpuNs: after[2] - before[2],
            });
            break;
          }
          case 'failed':
            heard.reject(new Error(line.reason));
        }
      };
      stdin.write(`${JSON.stringify(job)}\n`);
      try {
        return await heard.promise;
      } finally {
        clearTimeout(timer);
        child.off('exit', onExit);
      }
    },
  };
}
