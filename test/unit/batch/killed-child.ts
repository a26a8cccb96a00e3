import { setTimeout } from 'node:timers/promises';
import { runJob } from '../../../src/batch/job.ts';
import { fakeGenerator } from '../../helpers/fake-generator.ts';
import { KILLED_FAKE, killedOptions } from './killed-job.ts';

/** A job in a process of its own, to be killed. Sweeps are slow enough for commits to follow one by one. */
const [input = '', output = ''] = process.argv.slice(2);
const outcome = await runJob(killedOptions(input, output, process.stdin), async () =>
  fakeGenerator({ ...KILLED_FAKE, onSweep: () => setTimeout(5) }),
);
process.stdout.write(outcome.notice ?? '');
process.exitCode = outcome.exitCode;
