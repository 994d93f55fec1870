#!/usr/bin/env node
// The launcher. An old Node must be able to parse this file, so it is written in old JavaScript.
// It checks the version, says what to do when it is too old, and otherwise starts the program.

var NEEDED = 24;

if (parseInt(process.versions.node, 10) < NEEDED) {
  process.stderr.write(
    'belay: error: needs Node ' +
      NEEDED +
      ' or newer, this is ' +
      process.version +
      '\n' +
      'belay: hint: npx -y -p node@' +
      NEEDED +
      ' -p belayer belay ' +
      (process.argv.slice(2).join(' ') || '--help') +
      '\n',
  );
  process.exitCode = 69;
} else {
  import('../dist/cli/main.js').catch(function (error) {
    process.stderr.write('belay: error: cannot start: ' + error.message + '\n');
    process.stderr.write('belay: hint: in a checkout, `npm run build` comes first\n');
    process.exitCode = 69;
  });
}
