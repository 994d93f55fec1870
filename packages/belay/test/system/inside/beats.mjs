// An agent that shows when it runs: it adds a line with the time to a file every 10 ms, and, given a
// URL, calls it again and again and adds what came of each call.
//
//   node beats.mjs FILE [URL]

import fs from 'node:fs';
import https from 'node:https';

const [file, url] = process.argv.slice(2);
const fd = fs.openSync(file, 'a');
const note = (words) => fs.writeSync(fd, `${words}\n`);

setInterval(() => note(`beat ${Date.now()}`), 10);

function call() {
  const startedMs = Date.now();
  const again = (what) => {
    note(`call ${startedMs} ${what}`);
    setTimeout(call, 5);
  };
  const asked = https.request(url, { agent: false, timeout: 5_000 }, (response) => {
    response.resume();
    response.on('end', () => again(response.statusCode));
    response.on('error', (error) => again(error.code));
  });
  asked.on('timeout', () => asked.destroy(new Error('timeout')));
  asked.on('error', (error) => again(error.code ?? error.message));
  asked.end();
}
if (url !== undefined) call();
