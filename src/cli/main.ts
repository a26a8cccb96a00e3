#!/usr/bin/env node
import { runCli } from './program.ts';

// A reader that goes away (`| head`) must not end a job with a stack trace; who needs to know listens as well.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

process.exitCode = await runCli(process.argv.slice(2));
