// A program for tests: the janitor, as whoever starts it. Prints what it removed as JSON.

import { janitor } from '../../../src/sandbox/janitor.ts';

process.stdout.write(JSON.stringify(janitor(process.argv[2] ?? '', Date.now)));
