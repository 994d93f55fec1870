import { defineConfig } from 'vitest/config';
import { ResultsReporter } from './packages/belay/test/results-reporter.ts';

const test = 'packages/belay/test';

export default defineConfig({
  cacheDir: '.cache/vite',
  test: {
    maxWorkers: 2,
    reporters: ['default', new ResultsReporter()],
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: [`${test}/unit/**/*.test.ts`],
          exclude: [`${test}/unit/{guard,sandbox}/**`],
          sequence: { groupOrder: 0 },
        },
      },
      {
        // Namespaces, signals and deadlines: one file at a time, after everything else.
        extends: true,
        test: {
          name: 'system',
          include: [`${test}/{system,fault,scripts,unit/guard,unit/sandbox}/**/*.test.ts`],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // Needs programs that are installed for it: `npm run test:agents`.
        extends: true,
        test: {
          name: 'agents',
          include: [`${test}/agents/**/*.test.ts`],
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
