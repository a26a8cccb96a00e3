import { pbkdf2 } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { exitNow } from '../../../src/native/exit-now.ts';

/** Leaves while a native call runs on a worker thread that would go on for minutes. */
pbkdf2('a', 'b', 2 ** 30, 64, 'sha512', () => {});
await setTimeout(100);
process.stdout.write(`${Date.now()}\n`);
exitNow(4);
