import { pbkdf2 } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { onInterrupt } from '../../../src/cli/interrupt.ts';

/** Gets three signals, as far apart as a patient user's, while a native call runs on a worker thread that would go on for minutes. */
pbkdf2('a', 'b', 2 ** 30, 64, 'sha512', () => {});
using interruption = onInterrupt((message) => void process.stdout.write(`${message}\n`));
for (let press = 0; press < 3; press++) {
  process.kill(process.pid, 'SIGINT');
  await setTimeout(400);
}
process.stdout.write(`still here, aborted: ${interruption.abortSignal.aborted}\n`);
