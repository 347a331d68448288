#!/usr/bin/env node
// Starts the program for this system, which npm installed as one of the optional dependencies, and ends as it ends.
'use strict';
const { spawn } = require('node:child_process');
const { constants } = require('node:os');

const system = `${process.platform}-${process.arch}`;
let program;
try {
  program = require.resolve(`@jamjam-dev/${system}/jamjam-dev${process.platform === 'win32' ? '.exe' : ''}`);
} catch {
  console.error(`jamjam-dev: the package @jamjam-dev/${system} is not installed. If there is none for this system, build the program:`);
  console.error('cargo install --locked jamjam-dev');
  process.exit(3);
}
let child;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  // On Windows, `kill` ends a program without its report, and Ctrl-C reaches it from the console.
  process.on(signal, () => process.platform === 'win32' || child.kill(signal));
}
child = spawn(program, process.argv.slice(2), { stdio: 'inherit' });
child.on('error', (error) => {
  console.error(`jamjam-dev: ${error.message}`);
  process.exit(3);
});
child.on('exit', (code, signal) => {
  if (!signal) process.exit(code);
  process.exitCode = 128 + constants.signals[signal];
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
