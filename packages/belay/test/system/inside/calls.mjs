// An agent that calls as fast as it can, several calls at a time, every third at a host that is
// denied, and keeps a record of each answer: `NUMBER STATUS`.
//
//   node calls.mjs FILE PREFIX ALLOWED-HOST DENIED-HOST AT-ONCE

import fs from 'node:fs';
import https from 'node:https';

const [file, prefix, allowed, denied, atOnce] = process.argv.slice(2);
const fd = fs.openSync(file, 'a');
const agent = new https.Agent({ keepAlive: true });
let next = 0;

function call() {
  const number = next;
  next += 1;
  const again = (what) => {
    fs.writeSync(fd, `${number} ${what}\n`);
    setImmediate(call);
  };
  const host = number % 3 === 2 ? denied : allowed;
  const method = number % 2 === 0 ? 'GET' : 'POST';
  const asked = https.request({ host, path: `${prefix}/${number}`, method, agent }, (response) => {
    response.resume();
    response.on('end', () => again(response.statusCode));
    response.on('error', (error) => again(error.code));
  });
  asked.on('error', (error) => again(error.code ?? error.message));
  asked.end(method === 'POST' ? 'body' : undefined);
}
for (let i = 0; i < Number(atOnce); i += 1) call();
